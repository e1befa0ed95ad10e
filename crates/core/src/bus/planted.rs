//! Bugs that a simulated world plants, so that its checks can show that they find them.

use crate::Runtime;

/// Which bugs are planted: none, outside of a simulation. Asked once, when the bus is made.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Planted {
    /// A reply goes to whoever waits longest.
    pub(super) answers_any_request: bool,
    /// A correlation names the slot alone, so that a late reply finds the slot's next tenant.
    pub(super) forgets_generations: bool,
    /// A request waits for its reply however long that takes.
    pub(super) ignores_deadlines: bool,
}

impl Planted {
    pub(super) fn ask(runtime: Option<&dyn Runtime>) -> Self {
        let has = |bug| runtime.is_some_and(|runtime| runtime.has_planted(bug));
        Self {
            answers_any_request: has("bus.answers-any-request"),
            forgets_generations: has("bus.forgets-generations"),
            ignores_deadlines: has("bus.ignores-deadlines"),
        }
    }
}
