//! HELLO and WELCOME: what each side states, and what is made of it.

use std::time::Duration;

use crate::config::{Auth, Config, Limits};
use crate::fields::{FieldError, Fields, Writer};
use crate::frame::Violation;
use crate::preface::VERSION;

const MIN_VERSION: u8 = 1;
const MAX_VERSION: u8 = 2;
const FRAME: u8 = 3;
const PAYLOAD: u8 = 4;
const HEAD: u8 = 5;
const LINKS: u8 = 6;
const REASSEMBLY: u8 = 7;
const HEARTBEAT_MS: u8 = 8;
const SESSION: u8 = 9;
const SOFTWARE: u8 = 10;
const AUTH: u8 = 11;
const LINGER_MS: u8 = 12;

/// The longest software name that travels, in bytes.
const SOFTWARE_MAX: usize = 256;

/// What the peer has stated in its HELLO (a client's) or WELCOME (a server's).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The oldest and the newest version that it speaks.
    pub versions: (u8, u8),
    /// Its own limits, before the smaller ones were chosen.
    pub limits: Limits,
    /// Its heartbeat interval.
    pub heartbeat: Duration,
    /// Who it says it is.
    pub session: [u8; 16],
    /// Name and version of its software. It comes from outside: show it, do not trust it.
    pub software: String,
    /// How long it keeps what belongs to a session whose connection was lost; zero is not at all.
    pub linger: Duration,
    /// How it is authenticated, as a number: this version knows 0 (none) and 1 (peer credentials).
    pub auth: u8,
}

impl Hello {
    /// Writes what `config` states as the body of a HELLO or WELCOME.
    pub(crate) fn encode(config: &Config) -> Vec<u8> {
        let mut body = Vec::with_capacity(192);
        let limits = config.limits;
        let millis = |time: Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
        let mut writer = Writer::new(&mut body);
        writer
            .u8(MIN_VERSION, VERSION)
            .u8(MAX_VERSION, VERSION)
            .u32(FRAME, limits.frame.max(Limits::FRAME_MIN))
            .u32(PAYLOAD, limits.payload)
            .u32(HEAD, limits.head)
            .u16(LINKS, limits.links.max(1))
            .u32(REASSEMBLY, limits.reassembly)
            .u32(HEARTBEAT_MS, millis(config.heartbeat))
            .bytes(SESSION, &config.session)
            .str(SOFTWARE, crate::frame::cut(&config.software, SOFTWARE_MAX))
            .u8(AUTH, config.auth.as_u8());
        if !config.linger.is_zero() {
            writer.u32(LINGER_MS, millis(config.linger));
        }
        body
    }

    /// Reads the body of a HELLO or WELCOME.
    ///
    /// # Errors
    /// If it is malformed, lacks a field that is required, or states a limit that cannot work.
    pub fn decode(body: &[u8]) -> Result<Self, Violation> {
        let (mut min, mut max, mut frame, mut payload, mut head) = (None, None, None, None, None);
        let (mut links, mut reassembly, mut heartbeat) = (None, None, None);
        let (mut session, mut software, mut auth, mut linger) = ([0; 16], "", 0, 0);
        for field in Fields::new(body) {
            let field = field?;
            match field.tag() {
                MIN_VERSION => min = Some(field.u8()?),
                MAX_VERSION => max = Some(field.u8()?),
                FRAME => frame = Some(field.u32()?),
                PAYLOAD => payload = Some(field.u32()?),
                HEAD => head = Some(field.u32()?),
                LINKS => links = Some(field.u16()?),
                REASSEMBLY => reassembly = Some(field.u32()?),
                HEARTBEAT_MS => heartbeat = Some(field.u32()?),
                SESSION => session = field.array()?,
                SOFTWARE => software = field.str()?,
                AUTH => auth = field.u8()?,
                LINGER_MS => linger = field.u32()?,
                _ => {}
            }
        }
        let limits = Limits {
            frame: frame.ok_or(LACKS)?,
            payload: payload.ok_or(LACKS)?,
            head: head.ok_or(LACKS)?,
            links: links.ok_or(LACKS)?,
            reassembly: reassembly.ok_or(LACKS)?,
            unauthenticated: 0,
        };
        if limits.frame < Limits::FRAME_MIN || limits.links == 0 {
            return Err(TOO_SMALL);
        }
        if software.len() > SOFTWARE_MAX {
            return Err(SOFTWARE_LONG);
        }
        Ok(Self {
            versions: (min.ok_or(LACKS)?, max.ok_or(LACKS)?),
            limits,
            heartbeat: Duration::from_millis(u64::from(heartbeat.ok_or(LACKS)?)),
            session,
            software: software.to_owned(),
            linger: Duration::from_millis(u64::from(linger)),
            auth,
        })
    }

    /// Whether the peer speaks the version that this crate speaks.
    pub(crate) fn speaks_ours(&self) -> bool {
        (self.versions.0..=self.versions.1).contains(&VERSION)
    }

    /// Whether the peer's way of authentication is known here and is at least what `ours` asks for.
    pub(crate) fn satisfies(&self, ours: Auth) -> Option<bool> {
        let theirs = Auth::from_u8(self.auth)?;
        Some(ours == Auth::None || theirs == ours)
    }
}

const LACKS: Violation = Violation::protocol("HELLO or WELCOME lacks a field that is required");
const TOO_SMALL: Violation =
    Violation::protocol("a stated limit cannot work: frames need 4,096 bytes, links at least 1");
const SOFTWARE_LONG: Violation =
    Violation::protocol("the name of the software is longer than 256 bytes");

impl From<FieldError> for Violation {
    fn from(error: FieldError) -> Self {
        Self::detailed(crate::Code::Protocol, format!("HELLO or WELCOME is malformed: {error}"))
    }
}
