//! The bugs that can be planted in the framework, and which check finds each.
//!
//! A check that has never found anything proves little. So the framework asks its runtime, where
//! something is built, whether a bug of some name is planted there
//! ([`Runtime::has_planted`](posthaste_core::Runtime::has_planted)). Every runtime says no, but for
//! that of a simulated world with [`Sim::plant`](crate::Sim::plant): what is tested is what is
//! shipped, and no feature of Cargo switches anything.
//!
//! ```
//! use posthaste_sim::planted;
//!
//! let bug = planted::find("memory.forgets-ids").unwrap();
//! assert_eq!((bug.class, bug.found_by), (Some("F3"), "each id is taken once"));
//! ```

/// A bug that can be planted with [`Sim::plant`](crate::Sim::plant).
#[derive(Debug, Clone, Copy)]
pub struct Planted {
    /// Its name: where it is, and what it does there.
    pub name: &'static str,
    /// The class of failure that it stands for, in the project's table of cases from other
    /// messaging systems; none if that has no such class.
    pub class: Option<&'static str>,
    /// What the code then does.
    pub does: &'static str,
    /// The name of the check that finds it. What a power cut takes is chance: of those of
    /// [`DISKS`] another may find it first.
    pub found_by: &'static str,
}

/// What a scenario that hangs breaks.
const ENDS: &str = "everything comes to its end once the world has healed";
/// What a scenario breaks that waits in vain for something ([`World::until`](crate::World::until)).
const COMES_TRUE: &str = "what is waited for comes true";
const KEPT: &str = "nothing that was confirmed in a queue is lost";
const REQUESTS: &str = "every request has one outcome, in time, and is done at most once";

/// The bugs that can be planted in brokers in memory and in buses.
pub const ALL: &[Planted] = &[
    Planted {
        name: "memory.forgets-acked-count",
        class: None,
        does: "the books forget a copy that was acked",
        found_by: "the books balance",
    },
    Planted {
        name: "memory.loses-retried",
        class: None,
        does: "a copy that is to be delivered again counts as done",
        found_by: KEPT,
    },
    Planted {
        name: "memory.forgets-ids",
        class: Some("F3"),
        does: "a deduplication window remembers nothing",
        found_by: "each id is taken once",
    },
    Planted {
        name: "memory.requeues-at-the-tail",
        class: Some("F4"),
        does: "a copy that comes back goes to the end of its queue",
        found_by: "what is retried comes back at its old place",
    },
    Planted {
        name: "memory.ignores-keys",
        class: Some("F4"),
        does: "a keyed queue hands out a key's next message at once",
        found_by: "the messages of a key come one by one",
    },
    Planted {
        name: "bus.answers-any-request",
        class: Some("F6"),
        does: "a reply goes to whoever waits longest",
        found_by: REQUESTS,
    },
    Planted {
        name: "bus.forgets-generations",
        class: Some("F6"),
        does: "the late reply to a request that was given up answers the next one in its slot",
        found_by: REQUESTS,
    },
    Planted {
        name: "memory.forgets-blocked",
        class: Some("F7"),
        does: "room that is freed wakes none of the senders that wait for it",
        found_by: ENDS,
    },
    Planted {
        name: "memory.swallows-wake-ups",
        class: Some("F8"),
        does: "a consumer that gives up takes the wake-up with it that it got",
        found_by: COMES_TRUE,
    },
    Planted {
        name: "memory.ignores-capacity",
        class: Some("F9"),
        does: "a queue takes what it has no room for",
        found_by: "bounds hold",
    },
    Planted {
        name: "bus.ignores-deadlines",
        class: Some("F11"),
        does: "a request waits for its reply however long that takes",
        found_by: REQUESTS,
    },
    Planted {
        name: "memory.never-gives-up",
        class: Some("F12"),
        does: "a message that has failed as often as it may is handed out again all the same",
        found_by: "nothing is handed out too often",
    },
    Planted {
        name: "memory.drains-at-once",
        class: Some("F17"),
        does: "a drain waits for nothing",
        found_by: "a drain waits for what is handed out",
    },
    Planted {
        name: "memory.trusts-wall-clock",
        class: Some("F21"),
        does: "delays and windows run on the wall clock",
        found_by: "nothing comes before its time",
    },
    Planted {
        name: "memory.acks-at-hand-out",
        class: Some("F25"),
        does: "a delivery that is settled by hand counts as done when it is handed out",
        found_by: KEPT,
    },
];

/// The bugs that can be planted in links.
pub const LINKS: &[Planted] = &[
    Planted {
        name: "link.forgets-unconfirmed",
        class: Some("F1"),
        does: "what was not confirmed on a lost connection counts as confirmed",
        found_by: KEPT,
    },
    Planted {
        name: "link.forgets-subscriptions",
        class: Some("F2"),
        does: "subscriptions are not opened again after a connection was lost",
        found_by: COMES_TRUE,
    },
    Planted {
        name: "link.doubles-unconfirmed",
        class: Some("F3"),
        does: "what was not confirmed is sent again as if it never had been",
        found_by: "each attempt is handed out once",
    },
    Planted {
        name: "link.resends-in-reverse",
        class: Some("F4"),
        does: "what a resumed session repeats goes out last message first",
        found_by: "first deliveries are in the order of their sender",
    },
    Planted {
        name: "link.forgets-partial-frames",
        class: Some("F5"),
        does: "a frame that has come in part is gone when the driver sleeps meanwhile",
        found_by: "no panic",
    },
    Planted {
        name: "link.answers-any-request",
        class: Some("F6"),
        does: "the answer to a call goes to the call that waits longest",
        found_by: "calls get their own answers",
    },
    Planted {
        name: "link.ignores-heartbeats",
        class: Some("F10"),
        does: "a connection that has fallen silent goes unnoticed",
        found_by: ENDS,
    },
    Planted {
        name: "link.keeps-lost-sessions-silent",
        class: None,
        does: "nobody is told that a session is lost",
        found_by: COMES_TRUE,
    },
    Planted {
        name: "link.acks-on-arrival",
        class: Some("F25"),
        does: "deliveries are acknowledged as soon as they arrive at the client",
        found_by: KEPT,
    },
];

/// The bugs that can be planted in disks, and in brokers that keep their queues there.
pub const DISKS: &[Planted] = &[
    Planted {
        name: "disk.skips-data-sync",
        class: Some("F24"),
        does: "a sync of what is in a file does nothing",
        found_by: "no panic",
    },
    Planted {
        name: "disk.skips-directory-sync",
        class: Some("F24"),
        does: "a sync of the names of files does nothing",
        found_by: "nothing is there again",
    },
    Planted {
        name: "log.confirms-before-sync",
        class: Some("F25"),
        does: "what is written counts as stored",
        found_by: KEPT,
    },
    Planted {
        name: "log.forgets-ids",
        class: Some("F3"),
        does: "a broker that is opened again does not remember the ids that its queues have had",
        found_by: "nothing is there again",
    },
    Planted {
        name: "log.forgets-settlements",
        class: Some("F25"),
        does: "a broker that is opened again does not remember what was settled",
        found_by: "what is settled stays settled",
    },
];

/// The bug of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Planted> {
    ALL.iter().chain(LINKS).chain(DISKS).find(|bug| bug.name == name)
}
