//! The greeting: 64 bytes in which each side says its version, its mechanism and its part.

use posthaste_core::{Error, ErrorKind};

use super::broken;

/// How long a greeting is.
pub const GREETING_BYTES: usize = 64;

const MECHANISM: std::ops::Range<usize> = 12..32;

/// What a peer says before anything else.
///
/// ```
/// use posthaste_zmtp::codec::Greeting;
///
/// let greeting = Greeting::new("NULL", false);
/// let bytes = greeting.encode();
/// assert_eq!(Greeting::decode(&bytes)?, Some(greeting));
/// assert_eq!(Greeting::decode(&bytes[..40])?, None);
/// # Ok::<(), posthaste_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeting {
    /// The major version, 3 or more.
    pub major: u8,
    /// The minor version: 0 knows neither the commands of subscribing nor those of heartbeats.
    pub minor: u8,
    /// The security mechanism.
    pub mechanism: String,
    /// Whether this side is the server of the mechanism.
    pub as_server: bool,
}

impl Greeting {
    /// The greeting of ZMTP 3.1.
    #[must_use]
    pub fn new(mechanism: &str, as_server: bool) -> Self {
        Self { major: 3, minor: 1, mechanism: mechanism.to_owned(), as_server }
    }

    /// The bytes on the wire.
    #[must_use]
    pub fn encode(&self) -> [u8; GREETING_BYTES] {
        let mut bytes = [0; GREETING_BYTES];
        (bytes[0], bytes[9]) = (0xFF, 0x7F);
        (bytes[10], bytes[11]) = (self.major, self.minor);
        for (place, byte) in bytes[MECHANISM].iter_mut().zip(self.mechanism.bytes()) {
            *place = byte;
        }
        bytes[MECHANISM.end] = u8::from(self.as_server);
        bytes
    }

    /// Reads a greeting; `None` until all of it is there. What is wrong is said as early as it
    /// shows.
    ///
    /// # Errors
    /// `Protocol` for what is no greeting of ZMTP 3 or newer.
    pub fn decode(bytes: &[u8]) -> Result<Option<Self>, Error> {
        let at = |index: usize| bytes.get(index).copied();
        if at(0).is_some_and(|byte| byte != 0xFF) || at(9).is_some_and(|byte| byte & 1 != 1) {
            return Err(broken("its greeting has another signature"));
        }
        if let Some(major) = at(10).filter(|major| *major < 3) {
            let text = format!(
                "the peer speaks ZMTP {major}, which is older than 3.0; it needs libzmq 4 or newer"
            );
            return Err(Error::new(ErrorKind::Protocol, text));
        }
        let Some(bytes) = bytes.get(..GREETING_BYTES) else {
            return Ok(None);
        };
        let name = &bytes[MECHANISM];
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
        let (name, padding) = name.split_at(end);
        let known = |byte: &u8| byte.is_ascii_uppercase() || b"0123456789-_.+".contains(byte);
        if name.is_empty() || !name.iter().all(known) || padding.iter().any(|byte| *byte != 0) {
            return Err(broken("its greeting names no mechanism"));
        }
        Ok(Some(Self {
            major: bytes[10],
            minor: bytes[11],
            mechanism: String::from_utf8_lossy(name).into_owned(),
            as_server: bytes[MECHANISM.end] & 1 == 1,
        }))
    }

    /// Whether the peer knows `SUBSCRIBE`, `CANCEL`, `PING` and `PONG` as commands.
    #[must_use]
    pub fn has_commands(&self) -> bool {
        (self.major, self.minor) >= (3, 1)
    }
}
