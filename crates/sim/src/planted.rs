//! The bugs that can be planted in the framework, and which check finds each.

/// A bug that can be planted with [`Sim::plant`](crate::Sim::plant).
#[derive(Debug, Clone, Copy)]
pub struct Planted {
    /// Its name.
    pub name: &'static str,
    /// What the code then does.
    pub does: &'static str,
}

/// Every bug that can be planted.
pub const ALL: &[Planted] = &[];
