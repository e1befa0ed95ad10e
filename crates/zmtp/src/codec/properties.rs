//! What peers tell of themselves: the socket type, an identity, and properties of their own.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use posthaste_core::Error;

use super::broken;

macro_rules! socket_types {
    ($($name:ident = $text:literal talks with [$($other:ident),+];)+) => {
        /// What a ZeroMQ socket is for.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum SocketType {
            $(#[doc = concat!("A `", $text, "` socket.")] $name,)+
        }

        impl SocketType {
            /// The socket type of that name.
            #[must_use]
            pub fn from_name(name: &[u8]) -> Option<Self> {
                $(if name == $text.as_bytes() {
                    return Some(Self::$name);
                })+
                None
            }

            /// Whether the two may be connected.
            ///
            /// ```
            /// use posthaste_zmtp::codec::SocketType;
            ///
            /// assert!(SocketType::Push.talks_with(SocketType::Pull));
            /// assert!(!SocketType::Push.talks_with(SocketType::Sub));
            /// ```
            #[must_use]
            pub fn talks_with(self, other: Self) -> bool {
                match self {
                    $(Self::$name => matches!(other, $(Self::$other)|+),)+
                }
            }
        }

        impl fmt::Display for SocketType {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$name => $text,)+
                })
            }
        }
    };
}

socket_types! {
    Pub = "PUB" talks with [Sub, XSub];
    Sub = "SUB" talks with [Pub, XPub];
    XPub = "XPUB" talks with [Sub, XSub];
    XSub = "XSUB" talks with [Pub, XPub];
    Push = "PUSH" talks with [Pull];
    Pull = "PULL" talks with [Push];
    Req = "REQ" talks with [Rep, Router];
    Rep = "REP" talks with [Req, Dealer];
    Dealer = "DEALER" talks with [Rep, Dealer, Router];
    Router = "ROUTER" talks with [Req, Dealer, Router];
    Pair = "PAIR" talks with [Pair];
}

/// The longest name of a property, by the protocol.
const NAME_MAX: usize = 255;

/// What a peer tells of itself when the handshake ends.
///
/// ```
/// use posthaste_zmtp::codec::{Properties, SocketType};
///
/// let properties = Properties::new(SocketType::Dealer).with("X-Colour", "blue");
/// assert_eq!(Properties::decode(&properties.encode())?, properties);
/// assert_eq!(properties.other("x-colour").map(|value| &value[..]), Some(&b"blue"[..]));
/// # Ok::<(), posthaste_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Properties {
    /// What kind of socket it is.
    pub socket_type: SocketType,
    /// The identity under which a `ROUTER` knows it; empty if it does not care.
    pub identity: Bytes,
    /// Everything else, as name and value.
    pub others: Vec<(String, Bytes)>,
}

impl Properties {
    /// Those of a socket without an identity.
    #[must_use]
    pub fn new(socket_type: SocketType) -> Self {
        Self { socket_type, identity: Bytes::new(), others: Vec::new() }
    }

    /// Adds a property; names that are not the protocol's begin with `X-`.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Bytes>) -> Self {
        self.others.push((name.to_owned(), value.into()));
        self
    }

    /// The value of a property that is neither the socket type nor the identity.
    #[must_use]
    pub fn other(&self, name: &str) -> Option<&Bytes> {
        let mut others = self.others.iter();
        others.find(|(this, _)| this.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The bytes on the wire. A name that is too long for the protocol is left out.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::new();
        put(&mut bytes, "Socket-Type", self.socket_type.to_string().as_bytes());
        // Only these have one, by the specification.
        if matches!(self.socket_type, SocketType::Req | SocketType::Dealer | SocketType::Router) {
            put(&mut bytes, "Identity", &self.identity);
        }
        for (name, value) in &self.others {
            put(&mut bytes, name, value);
        }
        bytes.freeze()
    }

    /// Reads what a peer says.
    ///
    /// # Errors
    /// `Protocol` for what is cut short or names no socket type that is known here.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut rest = bytes;
        let (mut socket_type, mut identity, mut others) = (None, Bytes::new(), Vec::new());
        while !rest.is_empty() {
            let (name, value) =
                split(&mut rest).ok_or_else(|| broken("its properties are cut short"))?;
            let is = |this: &str| name.eq_ignore_ascii_case(this.as_bytes());
            if is("Socket-Type") {
                let known = SocketType::from_name(value);
                let text = || format!("no socket type {:?}", String::from_utf8_lossy(value));
                socket_type = Some(known.ok_or_else(|| broken(text()))?);
            } else if is("Identity") {
                identity = Bytes::copy_from_slice(value);
            } else {
                let name = String::from_utf8_lossy(name).into_owned();
                others.push((name, Bytes::copy_from_slice(value)));
            }
        }
        let socket_type = socket_type.ok_or_else(|| broken("it does not name its socket type"))?;
        if identity.len() > NAME_MAX {
            return Err(broken("its identity is too long"));
        }
        Ok(Self { socket_type, identity, others })
    }
}

fn put(into: &mut BytesMut, name: &str, value: &[u8]) {
    let (Ok(name_length), Ok(length)) = (u8::try_from(name.len()), u32::try_from(value.len()))
    else {
        return;
    };
    into.put_u8(name_length);
    into.put_slice(name.as_bytes());
    into.put_u32(length);
    into.put_slice(value);
}

fn split<'a>(rest: &mut &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    let (length, after) = rest.split_first()?;
    let (name, after) = after.split_at_checked(usize::from(*length)).filter(|_| *length > 0)?;
    let (length, after) = after.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (value, after) = after.split_at_checked(length)?;
    *rest = after;
    Some((name, value))
}
