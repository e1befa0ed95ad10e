//! Commands: a name and what belongs to it.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use posthaste_core::Error;

use super::{broken, encode_frame};

/// The most bytes of a heartbeat's context, by the protocol.
pub(crate) const CONTEXT_BYTES_MAX: usize = 16;

/// What libzmq sends for `ERROR`, up to 4.3.5 at least: its source has `"\x5ERROR"`, in which C
/// reads `\x5E`, a circumflex. No command has a name of that length.
const LIBZMQ_ERROR: &[u8] = b"^RROR";

/// What peers say to each other beside messages.
///
/// ```
/// use posthaste_zmtp::codec::Command;
///
/// let ping = Command::Ping { ttl_deciseconds: 300, context: "7".into() };
/// assert_eq!(Command::decode(ping.body())?, ping);
/// # Ok::<(), posthaste_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Command {
    /// The end of the handshake: the properties of the peer.
    Ready(Bytes),
    /// The handshake failed, for this reason.
    Error(String),
    /// `PLAIN`: the client's name and password.
    Hello {
        /// Who it is.
        username: Bytes,
        /// What proves it.
        password: Bytes,
    },
    /// `PLAIN`: the server accepts them.
    Welcome,
    /// `PLAIN`: the properties of the client.
    Initiate(Bytes),
    /// What begins with these bytes is wanted.
    Subscribe(Bytes),
    /// What begins with these bytes is not wanted any more.
    Cancel(Bytes),
    /// Are you there?
    Ping {
        /// How long the peer may take for a sign of life, in tenths of seconds; 0 is for ever.
        ttl_deciseconds: u16,
        /// What is to come back with the answer; at most 16 bytes.
        context: Bytes,
    },
    /// I am here.
    Pong(Bytes),
    /// One that is not known here, by its name.
    Unknown(Bytes),
}

impl Command {
    /// Reads a command from the body of its frame.
    ///
    /// # Errors
    /// `Protocol` for what is cut short.
    pub fn decode(mut body: Bytes) -> Result<Self, Error> {
        if body.starts_with(LIBZMQ_ERROR) {
            body.advance(LIBZMQ_ERROR.len());
            let why = take_short(&mut body).unwrap_or_default();
            return Ok(Self::Error(String::from_utf8_lossy(&why).into_owned()));
        }
        let name = take_short(&mut body).ok_or_else(|| broken("a command has no name"))?;
        let short = |what: &str| broken(format!("its {what} command is cut short"));
        Ok(match &name[..] {
            b"READY" => Self::Ready(body),
            b"ERROR" => {
                let why = take_short(&mut body).ok_or_else(|| short("ERROR"))?;
                Self::Error(String::from_utf8_lossy(&why).into_owned())
            }
            b"HELLO" => {
                let username = take_short(&mut body).ok_or_else(|| short("HELLO"))?;
                let password = take_short(&mut body).ok_or_else(|| short("HELLO"))?;
                Self::Hello { username, password }
            }
            b"WELCOME" => Self::Welcome,
            b"INITIATE" => Self::Initiate(body),
            b"SUBSCRIBE" => Self::Subscribe(body),
            b"CANCEL" => Self::Cancel(body),
            b"PING" if body.len() >= 2 => {
                let ttl_deciseconds = body.get_u16();
                if body.len() > CONTEXT_BYTES_MAX {
                    return Err(broken("the context of its PING command is too long"));
                }
                Self::Ping { ttl_deciseconds, context: body }
            }
            b"PING" => return Err(short("PING")),
            b"PONG" if body.len() > CONTEXT_BYTES_MAX => {
                return Err(broken("the context of its PONG command is too long"));
            }
            b"PONG" => Self::Pong(body),
            _ => Self::Unknown(name),
        })
    }

    /// The body of the command's frame. Texts are cut at the 255 bytes that the protocol has for
    /// them.
    #[must_use]
    pub fn body(&self) -> Bytes {
        let mut body = BytesMut::new();
        let mut named = |name: &str| put_short(&mut body, name.as_bytes());
        match self {
            Self::Ready(_) => named("READY"),
            Self::Error(_) => named("ERROR"),
            Self::Hello { .. } => named("HELLO"),
            Self::Welcome => named("WELCOME"),
            Self::Initiate(_) => named("INITIATE"),
            Self::Subscribe(_) => named("SUBSCRIBE"),
            Self::Cancel(_) => named("CANCEL"),
            Self::Ping { .. } => named("PING"),
            Self::Pong(_) => named("PONG"),
            Self::Unknown(name) => put_short(&mut body, name),
        }
        match self {
            Self::Ready(rest)
            | Self::Initiate(rest)
            | Self::Subscribe(rest)
            | Self::Cancel(rest)
            | Self::Pong(rest) => body.put_slice(rest),
            Self::Error(why) => put_short(&mut body, why.as_bytes()),
            Self::Hello { username, password } => {
                put_short(&mut body, username);
                put_short(&mut body, password);
            }
            Self::Ping { ttl_deciseconds, context } => {
                body.put_u16(*ttl_deciseconds);
                body.put_slice(context);
            }
            Self::Welcome | Self::Unknown(_) => {}
        }
        body.freeze()
    }

    /// Appends the command's frame.
    pub fn encode(&self, into: &mut BytesMut) {
        encode_frame(false, true, &self.body(), into);
    }
}

fn take_short(from: &mut Bytes) -> Option<Bytes> {
    let length = usize::from(*from.first()?);
    if from.len() <= length {
        return None;
    }
    from.advance(1);
    Some(from.split_to(length))
}

fn put_short(into: &mut BytesMut, text: &[u8]) {
    let text = &text[..text.len().min(usize::from(u8::MAX))];
    into.put_u8(u8::try_from(text.len()).unwrap_or(u8::MAX));
    into.put_slice(text);
}
