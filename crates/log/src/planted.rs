//! Bugs that a simulated world plants, so that its checks can show that they find them.

use posthaste_core::Runtime;

/// Which bugs are planted: none, outside of a simulation. Asked once, when the broker is opened.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Planted {
    /// What is written counts as stored.
    pub(crate) confirms_before_sync: bool,
    /// The ids that queues had are forgotten when the broker is opened again.
    pub(crate) forgets_ids: bool,
    /// So are the settlements.
    pub(crate) forgets_settlements: bool,
}

impl Planted {
    pub(crate) fn ask(runtime: &dyn Runtime) -> Self {
        Self {
            confirms_before_sync: runtime.has_planted("log.confirms-before-sync"),
            forgets_ids: runtime.has_planted("log.forgets-ids"),
            forgets_settlements: runtime.has_planted("log.forgets-settlements"),
        }
    }
}
