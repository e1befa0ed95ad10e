//! The laws by number, as the documentation of the traits states them.

use std::fmt;

macro_rules! laws {
    ($($law:ident: $text:literal,)+) => {
        /// A law of the traits, by its number.
        ///
        /// ```
        /// use posthaste_conformance::Law;
        ///
        /// assert_eq!(Law::R4.to_string(), "R4");
        /// assert!(Law::R4.text().contains("sticky"));
        /// ```
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Law {
            $(#[doc = $text] $law,)+
        }

        impl Law {
            /// Every law, in the order of the traits.
            pub const ALL: &[Self] = &[$(Self::$law),+];

            /// What the law says, in one sentence.
            #[must_use]
            pub fn text(self) -> &'static str {
                match self {
                    $(Self::$law => $text,)+
                }
            }
        }

        impl fmt::Display for Law {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$law => stringify!($law),)+
                })
            }
        }
    };
}

laws! {
    S1: "`Pending` or an error of a send leaves the message in the slot.",
    S2: "A message that is taken leaves the slot empty and is numbered 1, 2, 3, ...",
    S3: "A dropped wait for room leaves the message unsent.",
    S4: "After a flush every message up to it has exactly one outcome.",
    S5: "Sending after a close is `Closed` and hands the message back.",
    S6: "With a stalled receiver memory stays bounded.",
    S7: "A client's own books balance: what was taken is confirmed, returned or pending.",
    R1: "Dropping a pending receive loses nothing.",
    R2: "The messages of one sender arrive in the order in which it sent them.",
    R3: "An acked delivery never comes again; a retried or dropped one does, one attempt higher.",
    R4: "The end of a receiver is sticky.",
    R5: "A handle that is not being polled never swallows a wake-up.",
    R6: "A batch of 0 is the end and nothing else.",
    R7: "A delivery that takes too long goes to another consumer, unless it is extended.",
    R8: "A receiver that is cut off says `SlowConsumer` once, and then it has ended.",
    B1: "A capability that is lacking is `Unsupported` at the call, never silence.",
    B2: "A subscription is live once `receiver` resolves.",
    B3: "Of competing consumers each message goes to exactly one.",
    B4: "Of subscriptions, groups and queues each one that matches gets its own copy.",
    B5: "The ledger balances.",
    B6: "A dropped pending `receiver` or `declare` leaves nothing behind.",
    B7: "A queue is as declared; a contradiction is a `Conflict` that names the field.",
    B8: "What was rejected or tried too often goes to the dead-letter queue with its history.",
    B9: "What is too late is not handed out, and is booked as expired.",
    B10: "What is delayed is handed out no earlier, and holds up nothing else.",
    B11: "Of a queue's messages the highest priority goes first, each in its own order.",
    B12: "A message that a queue knows by its id is confirmed, counted and not taken.",
    B13: "A keyed queue hands out a key's next message once the one before is settled.",
    B14: "What happens at a bound is what was named, and every drop is counted with its reason.",
    B15: "One that stalls holds up no other, unless its policy is to block.",
    B16: "A drop is an event that says whose it was, what it was about and why.",
    B17: "Browsing changes nothing; purging and replaying lose nothing that is handed out.",
    B18: "Of a queue that retains every reader gets everything from its start on, in order.",
    B19: "What a durable queue confirmed or settled is so when its broker is opened again.",
    D1: "Dropping any handle, anywhere, neither panics, blocks nor spawns.",
    D2: "Empty, non-UTF-8 and maximum-size payloads pass; one byte more is `TooLarge`.",
    D3: "An error is one sentence that says what to do.",
    D4: "Arguments beyond all sense are an error or a limit, never a panic or a hang.",
    Q1: "A request that was dropped or timed out frees its slot; a late reply is not delivered.",
    Q2: "A request that nobody can answer is answered `NoResponders` at once.",
    Q3: "A cancelled request is removed where it waits, and who works on it is told.",
    Q4: "A survey ends with every answer there is, and says how many are missing.",
    Q5: "A streamed reply comes whole, in order and no faster than it is read.",
    T1: "Bytes arrive in order, and the end of one direction is visible while the other runs.",
    T2: "A peer that stalls in its handshake does not hold up `accept`.",
    T3: "Reads and writes may be cut at any byte boundary.",
    T4: "What a listener says it listens at can be connected to, and only while it is there.",
    X1: "`spawn` may be called from any thread, also one that is not the executor's own.",
    X2: "`now` never goes back.",
    X3: "A timer is never early; once it has fired it is pending until `reset` arms it again.",
    X4: "A registered socket is woken by this runtime's own reactor.",
}
