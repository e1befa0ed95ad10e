//! `CURVE`: both sides prove who they are by keys, and nobody else reads or changes what they say.
//!
//! CurveZMQ, as ZeroMQ's RFC 26 has it, over `crypto_box`. Keys are Curve25519's; each connection
//! has keys of its own besides, which are gone with it.

use std::fmt;
use std::str::FromStr;

use bytes::{BufMut, Bytes, BytesMut};
use crypto_box::aead::Aead;
use crypto_box::{Nonce, PublicKey, SalsaBox, SecretKey};
use posthaste_core::{Error, ErrorKind};

use super::{Frame, broken, z85};

const KEY: usize = 32;
const COOKIE: usize = 96;
/// What a box adds to what is in it.
const TAG: usize = 16;
const MORE: u8 = 1;
const COMMAND: u8 = 2;
const MESSAGE: &[u8] = b"\x07MESSAGE";
/// How much longer a frame is on the wire than what is in it.
pub(super) const OVERHEAD: usize = MESSAGE.len() + 8 + TAG + 1;

/// The public half of a key pair: 32 bytes, written in 40 characters of Z85 as ZeroMQ does.
///
/// ```
/// use posthaste_zmtp::codec::CurveKey;
///
/// let key: CurveKey = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7".parse()?;
/// assert_eq!(key.to_string(), "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7");
/// assert!("too short".parse::<CurveKey>().is_err());
/// # Ok::<(), posthaste_core::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CurveKey([u8; KEY]);

impl CurveKey {
    /// The key of these bytes.
    #[must_use]
    pub fn new(bytes: [u8; KEY]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; KEY] {
        &self.0
    }
}

impl FromStr for CurveKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let key = z85::decode(text).and_then(|bytes| bytes.try_into().ok());
        key.map(Self).ok_or_else(|| {
            let text = "a CURVE key is 40 characters of Z85, as zmq_curve_keypair makes them";
            Error::new(ErrorKind::InvalidArgument, text)
        })
    }
}

impl fmt::Display for CurveKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&z85::encode(&self.0))
    }
}

impl fmt::Debug for CurveKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CurveKey({self})")
    }
}

/// A key pair. Its secret half is never shown.
///
/// ```
/// use posthaste_zmtp::codec::CurveKeys;
///
/// let keys = CurveKeys::generate()?;
/// let again = CurveKeys::from_secret(&keys.secret())?;
/// assert_eq!(again.public(), keys.public());
/// # Ok::<(), posthaste_core::Error>(())
/// ```
#[derive(Clone)]
pub struct CurveKeys(SecretKey);

impl CurveKeys {
    /// A new pair, from the randomness of the operating system.
    ///
    /// # Errors
    /// `Internal` if there is none.
    pub fn generate() -> Result<Self, Error> {
        Ok(Self(SecretKey::from(random::<KEY>()?)))
    }

    /// The pair of this secret key, in 40 characters of Z85.
    ///
    /// # Errors
    /// `InvalidArgument` for what is none.
    pub fn from_secret(secret: &str) -> Result<Self, Error> {
        let CurveKey(bytes) = secret.parse()?;
        Ok(Self(SecretKey::from(bytes)))
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> CurveKey {
        CurveKey(*self.0.public_key().as_bytes())
    }

    /// The secret half, in 40 characters of Z85: for where it is kept.
    #[must_use]
    pub fn secret(&self) -> String {
        z85::encode(&self.0.to_bytes())
    }
}

impl fmt::Debug for CurveKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CurveKeys").field("public", &self.public()).finish_non_exhaustive()
    }
}

fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| {
        let text = format!("the operating system gives no randomness for keys: {error}");
        Error::new(ErrorKind::Internal, text)
    })?;
    Ok(bytes)
}

/// A nonce of a prefix and what is sent of it.
fn nonce(prefix: &[u8], rest: &[u8]) -> Nonce {
    let mut bytes = [0; 24];
    for (place, byte) in bytes.iter_mut().zip(prefix.iter().chain(rest)) {
        *place = *byte;
    }
    bytes.into()
}

fn seal(with: &SalsaBox, nonce: &Nonce, open: &[u8]) -> Result<Vec<u8>, Error> {
    let failed = |_| Error::new(ErrorKind::Internal, "a message could not be encrypted");
    with.encrypt(nonce, open).map_err(failed)
}

fn open(with: &SalsaBox, nonce: &Nonce, sealed: &[u8]) -> Result<Vec<u8>, Error> {
    with.decrypt(nonce, sealed).map_err(|_| {
        let text = "a peer was refused because its CURVE keys do not fit; check them on both sides";
        Error::new(ErrorKind::Refused, text)
    })
}

fn cut_short() -> Error {
    broken("a CURVE command has the wrong length")
}

/// Takes so many bytes off the front.
fn take<'a, const N: usize>(from: &mut &'a [u8]) -> Result<&'a [u8; N], Error> {
    let (taken, rest) = from.split_first_chunk().ok_or_else(cut_short)?;
    *from = rest;
    Ok(taken)
}

/// The name of a command, which has to be this one.
fn expect(body: &mut &[u8], name: &[u8]) -> Result<(), Error> {
    *body = body.strip_prefix(name).ok_or_else(|| broken("it sent a CURVE command out of turn"))?;
    Ok(())
}

/// The numbers of what one side sends, of which none comes twice.
#[derive(Debug, Default)]
struct Count(u64);

impl Count {
    fn next(&mut self) -> [u8; 8] {
        self.0 += 1;
        self.0.to_be_bytes()
    }

    /// Takes the number of what the other side sent.
    fn heard(&mut self, number: [u8; 8]) -> Result<(), Error> {
        let number = u64::from_be_bytes(number);
        if number <= self.0 {
            return Err(broken("a CURVE nonce came twice"));
        }
        self.0 = number;
        Ok(())
    }
}

/// The client's side of the handshake.
pub(super) struct Client {
    server: PublicKey,
    keys: SecretKey,
    transient: SecretKey,
    sent: Count,
    heard: Count,
    traffic: Option<SalsaBox>,
}

impl Client {
    pub(super) fn new(server: CurveKey, keys: &CurveKeys) -> Result<Self, Error> {
        Ok(Self {
            server: PublicKey::from(server.0),
            keys: keys.0.clone(),
            transient: SecretKey::from(random::<KEY>()?),
            sent: Count::default(),
            heard: Count::default(),
            traffic: None,
        })
    }

    pub(super) fn hello(&mut self) -> Result<Bytes, Error> {
        let number = self.sent.next();
        let with = SalsaBox::new(&self.server, &self.transient);
        let proof = seal(&with, &nonce(b"CurveZMQHELLO---", &number), &[0; 64])?;
        let mut body = BytesMut::from(&b"\x05HELLO\x01\x00"[..]);
        body.put_bytes(0, 72);
        body.put_slice(self.transient.public_key().as_bytes());
        body.put_slice(&number);
        body.put_slice(&proof);
        Ok(body.freeze())
    }

    /// Takes the server's welcome; the answer is what to send next.
    pub(super) fn welcome(&mut self, mut body: &[u8], metadata: &[u8]) -> Result<Bytes, Error> {
        expect(&mut body, b"\x07WELCOME")?;
        let long: &[u8; 16] = take(&mut body)?;
        let with = SalsaBox::new(&self.server, &self.transient);
        let welcome = open(&with, &nonce(b"WELCOME-", long), body)?;
        let mut welcome = &welcome[..];
        let theirs = PublicKey::from(*take::<KEY>(&mut welcome)?);
        let cookie: &[u8; COOKIE] = take(&mut welcome)?;

        let long = random::<16>()?;
        let mut vouch = BytesMut::from(&self.transient.public_key().as_bytes()[..]);
        vouch.put_slice(self.server.as_bytes());
        let with = SalsaBox::new(&theirs, &self.keys);
        let vouch = seal(&with, &nonce(b"VOUCH---", &long), &vouch)?;

        let mut inner = BytesMut::from(&self.keys.public_key().as_bytes()[..]);
        inner.put_slice(&long);
        inner.put_slice(&vouch);
        inner.put_slice(metadata);
        let number = self.sent.next();
        let traffic = SalsaBox::new(&theirs, &self.transient);
        let inner = seal(&traffic, &nonce(b"CurveZMQINITIATE", &number), &inner)?;
        self.traffic = Some(traffic);

        let mut body = BytesMut::from(&b"\x08INITIATE"[..]);
        body.put_slice(cookie);
        body.put_slice(&number);
        body.put_slice(&inner);
        Ok(body.freeze())
    }

    /// Takes the server's properties; from then on there is traffic.
    pub(super) fn ready(self, mut body: &[u8]) -> Result<(Vec<u8>, Traffic), Error> {
        let Self { sent, mut heard, traffic, .. } = self;
        let with = traffic.ok_or_else(cut_short)?;
        expect(&mut body, b"\x05READY")?;
        let number: &[u8; 8] = take(&mut body)?;
        let metadata = open(&with, &nonce(b"CurveZMQREADY---", number), body)?;
        heard.heard(*number)?;
        Ok((metadata, Traffic { with, sent, heard, is_server: false }))
    }
}

/// The server's side of the handshake.
pub(super) struct Server {
    keys: SecretKey,
    transient: SecretKey,
    cookie: [u8; COOKIE],
    client: Option<PublicKey>,
    heard: Count,
}

impl Server {
    pub(super) fn new(keys: &CurveKeys) -> Result<Self, Error> {
        Ok(Self {
            keys: keys.0.clone(),
            transient: SecretKey::from(random::<KEY>()?),
            // The connection remembers what a cookie is there to make the client remember.
            cookie: random::<COOKIE>()?,
            client: None,
            heard: Count::default(),
        })
    }

    /// Takes the client's hello; the answer is the welcome.
    pub(super) fn hello(&mut self, mut body: &[u8]) -> Result<Bytes, Error> {
        if body.len() != 200 {
            return Err(cut_short());
        }
        expect(&mut body, b"\x05HELLO")?;
        let [major, ..] = take::<74>(&mut body)?;
        if *major != 1 {
            return Err(broken("it speaks a version of CURVE that is not 1"));
        }
        let client = PublicKey::from(*take::<KEY>(&mut body)?);
        let number: &[u8; 8] = take(&mut body)?;
        let with = SalsaBox::new(&client, &self.keys);
        let proof = open(&with, &nonce(b"CurveZMQHELLO---", number), body)?;
        if proof != [0; 64] {
            return Err(cut_short());
        }
        self.heard.heard(*number)?;
        self.client = Some(client);

        let long = random::<16>()?;
        let mut welcome = BytesMut::from(&self.transient.public_key().as_bytes()[..]);
        welcome.put_slice(&self.cookie);
        let welcome = seal(&with, &nonce(b"WELCOME-", &long), &welcome)?;
        let mut body = BytesMut::from(&b"\x07WELCOME"[..]);
        body.put_slice(&long);
        body.put_slice(&welcome);
        Ok(body.freeze())
    }

    /// Takes the client's key and properties; from then on there is traffic.
    pub(super) fn initiate(self, mut body: &[u8]) -> Result<(CurveKey, Vec<u8>, Traffic), Error> {
        let Self { keys, transient, cookie, client, mut heard } = self;
        let client = client.ok_or_else(cut_short)?;
        expect(&mut body, b"\x08INITIATE")?;
        if *take::<COOKIE>(&mut body)? != cookie {
            return Err(broken("its CURVE cookie is not what it was given"));
        }
        let number: &[u8; 8] = take(&mut body)?;
        let with = SalsaBox::new(&client, &transient);
        let inner = open(&with, &nonce(b"CurveZMQINITIATE", number), body)?;
        heard.heard(*number)?;
        let mut inner = &inner[..];
        let key = *take::<KEY>(&mut inner)?;
        let long: &[u8; 16] = take(&mut inner)?;
        let vouch: &[u8; 80] = take(&mut inner)?;
        let voucher = SalsaBox::new(&PublicKey::from(key), &transient);
        let vouched = open(&voucher, &nonce(b"VOUCH---", long), vouch)?;
        let expected = [&client.as_bytes()[..], &keys.public_key().as_bytes()[..]].concat();
        if vouched != expected {
            let text = "a peer was refused because its key does not vouch for this connection";
            return Err(Error::new(ErrorKind::Refused, text));
        }
        let traffic = Traffic { with, sent: Count::default(), heard, is_server: true };
        Ok((CurveKey(key), inner.to_vec(), traffic))
    }
}

/// Messages and commands, sealed.
pub(super) struct Traffic {
    with: SalsaBox,
    sent: Count,
    heard: Count,
    is_server: bool,
}

impl Traffic {
    /// The server's properties, which end the handshake.
    pub(super) fn ready(&mut self, metadata: &[u8]) -> Result<Bytes, Error> {
        let number = self.sent.next();
        let sealed = seal(&self.with, &nonce(b"CurveZMQREADY---", &number), metadata)?;
        let mut body = BytesMut::from(&b"\x05READY"[..]);
        body.put_slice(&number);
        body.put_slice(&sealed);
        Ok(body.freeze())
    }

    /// What is written of a nonce says which side it is of.
    fn prefix(of_server: bool) -> &'static [u8] {
        if of_server { b"CurveZMQMESSAGES" } else { b"CurveZMQMESSAGEC" }
    }

    /// A frame as the body of another one.
    pub(super) fn seal(&mut self, more: bool, command: bool, body: &[u8]) -> Result<Bytes, Error> {
        let flags = if more { MORE } else { 0 } | if command { COMMAND } else { 0 };
        let mut inner = BytesMut::with_capacity(1 + body.len());
        inner.put_u8(flags);
        inner.put_slice(body);
        let number = self.sent.next();
        let sealed = seal(&self.with, &nonce(Self::prefix(self.is_server), &number), &inner)?;
        let mut body = BytesMut::with_capacity(MESSAGE.len() + 8 + sealed.len());
        body.put_slice(MESSAGE);
        body.put_slice(&number);
        body.put_slice(&sealed);
        Ok(body.freeze())
    }

    /// The frame that is in the body of another one.
    pub(super) fn open(&mut self, mut body: &[u8]) -> Result<Frame, Error> {
        expect(&mut body, MESSAGE)?;
        let number: &[u8; 8] = take(&mut body)?;
        let inner = open(&self.with, &nonce(Self::prefix(!self.is_server), number), body)?;
        self.heard.heard(*number)?;
        let inner = Bytes::from(inner);
        let flags = *inner.first().ok_or_else(cut_short)?;
        let (more, command) = (flags & MORE != 0, flags & COMMAND != 0);
        if flags & !(MORE | COMMAND) != 0 || (more && command) {
            return Err(broken(format!("a sealed frame has the flags {flags:#04x}")));
        }
        Ok(Frame { more, command, body: inner.slice(1..) })
    }
}
