//! Which link of a session an OPEN is about, and where it was when the connection was lost.
//!
//! These fields stand beside the options of a sender or a receiver, in the same record.

use posthaste_wire::fields::Writer;

use super::{Decoded, malformed, number, read};

const KEY: u8 = 32;
const RESUME_AT: u8 = 33;
const OR_NOTHING: u8 = 34;
const LIFE: u8 = 35;

/// A link's name in its session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The client's own number for it, which it uses for no other link; 0 is none.
    pub(crate) key: u64,
    /// Which of the lives that the server began under this key it wants to go on with: a client that
    /// has not heard of the latest must not be taken for one that has.
    pub(crate) life: u64,
    /// Where it wants to go on: a sender after this many outcomes, a receiver after this many
    /// messages. `None` begins anew.
    pub(crate) resume_at: Option<u64>,
    /// Whether it is to be refused where it cannot go on: nobody holds it any more, and it comes
    /// back only to say what is left to say.
    pub(crate) or_nothing: bool,
}

/// Adds the fields to a record.
pub(crate) fn encode(identity: Identity, record: &mut Vec<u8>) {
    let mut writer = Writer::new(record);
    if identity.key != 0 {
        writer.u64(KEY, identity.key);
    }
    if let Some(at) = identity.resume_at {
        writer.u64(RESUME_AT, at);
    }
    if identity.life != 0 {
        writer.u64(LIFE, identity.life);
    }
    if identity.or_nothing {
        writer.bool(OR_NOTHING, true);
    }
}

/// Reads the fields out of a record.
pub(crate) fn decode(record: &[u8]) -> Decoded<Identity> {
    let mut identity = Identity::default();
    read(record, |field| {
        match field.tag() {
            KEY => identity.key = number(&field)?,
            RESUME_AT => identity.resume_at = Some(number(&field)?),
            LIFE => identity.life = number(&field)?,
            OR_NOTHING => identity.or_nothing = field.bool().map_err(malformed)?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(identity)
}
