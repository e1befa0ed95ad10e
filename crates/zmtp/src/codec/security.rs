//! How peers prove who they are: the mechanisms of ZMTP.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::{CurveKey, CurveKeys};

/// A name and a password, of the mechanism `PLAIN`.
///
/// ```
/// use posthaste_zmtp::codec::Credentials;
///
/// let credentials = Credentials::new("till-4", "secret");
/// assert_eq!(format!("{credentials:?}"), "Credentials { username: \"till-4\", .. }");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub(super) username: Bytes,
    pub(super) password: Bytes,
}

impl Credentials {
    /// A name and a password, each of at most 255 bytes: what is longer is cut.
    pub fn new(username: impl Into<Bytes>, password: impl Into<Bytes>) -> Self {
        let cut = |mut text: Bytes| {
            text.truncate(usize::from(u8::MAX));
            text
        };
        Self { username: cut(username.into()), password: cut(password.into()) }
    }

    /// Who it is.
    #[must_use]
    pub fn username(&self) -> &[u8] {
        &self.username
    }

    /// What proves it.
    #[must_use]
    pub fn password(&self) -> &[u8] {
        &self.password
    }

    /// Whether they are the same, in a time that does not tell how much of them is.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        let same = |one: &[u8], other: &[u8]| {
            let differs = one.iter().zip(other).fold(0, |differs, (a, b)| differs | (a ^ b));
            one.len() == other.len() && std::hint::black_box(differs) == 0
        };
        same(&self.username, &other.username) & same(&self.password, &other.password)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let username = String::from_utf8_lossy(&self.username);
        f.debug_struct("Credentials").field("username", &username).finish_non_exhaustive()
    }
}

/// What says whether a client's credentials are good.
pub(super) type Check = Arc<dyn Fn(&Credentials) -> bool + Send + Sync>;

/// What says whether a client's key is good.
pub(super) type CheckKey = Arc<dyn Fn(&CurveKey) -> bool + Send + Sync>;

/// The mechanism that a connection begins with, and this side's part in it. Both sides have to use
/// the same one.
///
/// ```
/// use posthaste_zmtp::codec::{Credentials, Security};
///
/// let known = Credentials::new("till-4", "secret");
/// let client = Security::plain(known.clone());
/// let server = Security::plain_server(move |offered| offered.matches(&known));
/// assert_eq!((client.mechanism(), server.mechanism()), ("PLAIN", "PLAIN"));
/// ```
#[derive(Clone)]
pub struct Security(pub(super) Mechanism);

#[derive(Clone)]
pub(super) enum Mechanism {
    Null,
    PlainClient(Credentials),
    PlainServer(Check),
    CurveClient { server: CurveKey, keys: CurveKeys },
    CurveServer { keys: CurveKeys, check: CheckKey },
}

impl Security {
    /// Nobody proves anything.
    #[must_use]
    pub fn null() -> Self {
        Self(Mechanism::Null)
    }

    /// `PLAIN`, as a client: a name and a password, which go over the wire as they are.
    #[must_use]
    pub fn plain(credentials: Credentials) -> Self {
        Self(Mechanism::PlainClient(credentials))
    }

    /// `PLAIN`, as the server: `check` says whether a client's credentials are good. It is called
    /// by the connection's own task and must not block.
    pub fn plain_server(check: impl Fn(&Credentials) -> bool + Send + Sync + 'static) -> Self {
        Self(Mechanism::PlainServer(Arc::new(check)))
    }

    /// `CURVE`, as a client with keys of its own, of the server that has this public key.
    ///
    /// ```
    /// use posthaste_zmtp::codec::{CurveKeys, Security};
    ///
    /// let (server, client) = (CurveKeys::generate()?, CurveKeys::generate()?);
    /// let known = client.public();
    /// let theirs = Security::curve(server.public(), client);
    /// let ours = Security::curve_server(server, move |key| *key == known);
    /// assert_eq!((theirs.mechanism(), ours.is_server()), ("CURVE", true));
    /// # Ok::<(), posthaste_core::Error>(())
    /// ```
    #[must_use]
    pub fn curve(server: CurveKey, keys: CurveKeys) -> Self {
        Self(Mechanism::CurveClient { server, keys })
    }

    /// `CURVE`, as the server: `check` says whether a client's public key is good. It is called by
    /// the connection's own task and must not block.
    pub fn curve_server(
        keys: CurveKeys,
        check: impl Fn(&CurveKey) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self(Mechanism::CurveServer { keys, check: Arc::new(check) })
    }

    /// The mechanism's name.
    #[must_use]
    pub fn mechanism(&self) -> &'static str {
        match self.0 {
            Mechanism::Null => "NULL",
            Mechanism::PlainClient(_) | Mechanism::PlainServer(_) => "PLAIN",
            Mechanism::CurveClient { .. } | Mechanism::CurveServer { .. } => "CURVE",
        }
    }

    /// Whether this side is the server of the mechanism.
    #[must_use]
    pub fn is_server(&self) -> bool {
        matches!(self.0, Mechanism::PlainServer(_) | Mechanism::CurveServer { .. })
    }
}

impl Default for Security {
    fn default() -> Self {
        Self::null()
    }
}

impl fmt::Debug for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Security")
            .field("mechanism", &self.mechanism())
            .field("is_server", &self.is_server())
            .finish_non_exhaustive()
    }
}
