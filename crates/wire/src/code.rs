//! Why something was refused, returned, closed or ended: one number space for the whole protocol.

use std::fmt;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        /// A reason in two bytes; a sentence for people usually travels beside it.
        ///
        /// Codes that this version does not know are preserved as [`Code::Other`], so that a newer
        /// peer's reason can still be shown and passed on.
        ///
        /// ```
        /// use posthaste_wire::Code;
        /// assert_eq!(Code::from_u16(9), Code::Full);
        /// assert_eq!(Code::from_u16(60_000).as_u16(), 60_000);
        /// ```
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Code {
            $($(#[$doc])* $name,)*
            /// A code that this version does not name.
            Other(u16),
        }

        impl Code {
            /// The code with this number.
            #[must_use]
            pub const fn from_u16(number: u16) -> Self {
                match number {
                    $($number => Self::$name,)*
                    other => Self::Other(other),
                }
            }

            /// The number that travels.
            #[must_use]
            pub const fn as_u16(self) -> u16 {
                match self {
                    $(Self::$name => $number,)*
                    Self::Other(number) => number,
                }
            }

            /// A short lower-case phrase for people.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                    Self::Other(_) => "other",
                }
            }
        }
    };
}

codes! {
    /// As asked; nothing is wrong.
    Ok = 0, "ok";
    /// The peer broke a rule of the protocol.
    Protocol = 1, "protocol violation";
    /// No version is spoken by both sides.
    Version = 2, "version not spoken";
    /// A frame, head, payload or argument is over its limit.
    TooLarge = 3, "too large";
    /// A limit in number (links, calls, pending control bytes) is exceeded.
    Limit = 4, "limit exceeded";
    /// The other side lacks what was asked for.
    Unsupported = 5, "unsupported";
    /// What was named does not exist.
    NotFound = 6, "not found";
    /// What was asked for contradicts what exists.
    Conflict = 7, "conflict";
    /// Authentication failed or permission is lacking.
    Refused = 8, "refused";
    /// A bound is reached and its policy is to refuse.
    Full = 9, "full";
    /// The deadline or time to live had passed.
    Expired = 10, "expired";
    /// A topic, pattern or name is malformed.
    InvalidTopic = 11, "invalid topic";
    /// Nobody answers requests there.
    NoResponders = 12, "no responders";
    /// Whoever asked no longer wants it.
    Cancelled = 13, "cancelled";
    /// It has been closed.
    Closed = 14, "closed";
    /// The server is about to stop.
    GoingAway = 15, "going away";
    /// A fault of the sender's own.
    Internal = 16, "internal error";
    /// Nothing was heard for two heartbeat intervals.
    Heartbeat = 17, "heartbeat missed";
    /// The handshake was not finished in time.
    Timeout = 18, "timed out";
    /// The level that was asked for was not reached.
    Unconfirmed = 19, "unconfirmed";
    /// A subscriber that frees no room was cut off.
    SlowConsumer = 20, "slow consumer";
    /// The connection ended without a goodbye. It is never sent: the side that is left says it.
    ConnectionLost = 21, "connection lost";
    /// The session that a client wants to resume is gone.
    SessionLost = 22, "session lost";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other(number) => write!(f, "code {number}"),
            known => f.write_str(known.as_str()),
        }
    }
}
