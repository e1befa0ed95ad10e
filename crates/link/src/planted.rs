//! Bugs that a simulated world plants, so that its checks can show that they find them.

use posthaste_core::Runtime;

/// Which bugs are planted: none, outside of a simulation. Asked once, when an end is made.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Planted {
    /// What was unconfirmed when the connection was lost counts as confirmed.
    pub(crate) forgets_unconfirmed: bool,
    /// Receivers are not opened again on the next connection.
    pub(crate) forgets_subscriptions: bool,
    /// What was unconfirmed is sent again newest first.
    pub(crate) resends_in_reverse: bool,
    /// What was unconfirmed is sent again as if it never had been.
    pub(crate) doubles_unconfirmed: bool,
    /// A peer that falls silent is waited for.
    pub(crate) ignores_heartbeats: bool,
    /// A delivery is acked when it arrives, before the application has seen it.
    pub(crate) acks_on_arrival: bool,
    /// A frame that came in part is forgotten when there is nothing more to read.
    pub(crate) forgets_partial_frames: bool,
    /// An answer goes to the call that has waited longest.
    pub(crate) answers_any_request: bool,
    /// Nobody is told that a session was lost.
    pub(crate) hides_lost_sessions: bool,
}

impl Planted {
    pub(crate) fn ask(runtime: &dyn Runtime) -> Self {
        let has = |bug| runtime.has_planted(bug);
        Self {
            forgets_unconfirmed: has("link.forgets-unconfirmed"),
            forgets_subscriptions: has("link.forgets-subscriptions"),
            resends_in_reverse: has("link.resends-in-reverse"),
            doubles_unconfirmed: has("link.doubles-unconfirmed"),
            ignores_heartbeats: has("link.ignores-heartbeats"),
            acks_on_arrival: has("link.acks-on-arrival"),
            forgets_partial_frames: has("link.forgets-partial-frames"),
            answers_any_request: has("link.answers-any-request"),
            hides_lost_sessions: has("link.keeps-lost-sessions-silent"),
        }
    }
}
