//! Bugs that a simulated world plants, so that its checks can show that they find them.

use posthaste_core::Runtime;

/// Which bugs are planted: none, outside of a simulation. Asked once, when the broker is built.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Planted {
    /// The books forget a copy that was acked.
    pub(crate) forgets_acked_count: bool,
    /// A copy that is to be delivered again counts as done.
    pub(crate) loses_retried: bool,
    /// A copy that comes back goes to the end.
    pub(crate) requeues_at_the_tail: bool,
    /// A delivery that is settled by hand counts as done when it is handed out.
    pub(crate) acks_at_hand_out: bool,
    /// A consumer that gives up takes the wake-up with it that it got.
    pub(crate) swallows_wake_ups: bool,
    /// A deduplication window remembers nothing.
    pub(crate) forgets_ids: bool,
    /// A keyed queue hands out a key's next message at once.
    pub(crate) ignores_keys: bool,
    /// A queue takes what it has no room for.
    pub(crate) ignores_capacity: bool,
    /// Room that is freed wakes none of the senders that wait for it.
    pub(crate) forgets_blocked: bool,
    /// A message that has failed as often as it may is handed out again all the same.
    pub(crate) never_gives_up: bool,
    /// A drain waits for nothing.
    pub(crate) drains_at_once: bool,
    /// Durations run on the wall clock.
    pub(crate) trusts_wall_clock: bool,
}

impl Planted {
    pub(crate) fn ask(runtime: Option<&dyn Runtime>) -> Self {
        let has = |bug| runtime.is_some_and(|runtime| runtime.has_planted(bug));
        Self {
            forgets_acked_count: has("memory.forgets-acked-count"),
            loses_retried: has("memory.loses-retried"),
            requeues_at_the_tail: has("memory.requeues-at-the-tail"),
            acks_at_hand_out: has("memory.acks-at-hand-out"),
            swallows_wake_ups: has("memory.swallows-wake-ups"),
            forgets_ids: has("memory.forgets-ids"),
            ignores_keys: has("memory.ignores-keys"),
            ignores_capacity: has("memory.ignores-capacity"),
            forgets_blocked: has("memory.forgets-blocked"),
            never_gives_up: has("memory.never-gives-up"),
            drains_at_once: has("memory.drains-at-once"),
            trusts_wall_clock: has("memory.trusts-wall-clock"),
        }
    }
}
