//! The first eight bytes of each side, which tell a Posthaste peer from anything else at once.

/// Bytes of a preface: six of magic, the version, one that is reserved.
pub const PREFACE_LEN: usize = 8;

/// The version of the protocol that this crate speaks.
pub const VERSION: u8 = 1;

/// What a server says to a peer that speaks something else, before it closes.
pub const FOREIGN_LINE: &str = "posthaste: this port speaks the Posthaste protocol, version 1; \
                                connect with a Posthaste client\n";

/// The first byte is not ASCII and the last two are a line end, so that text protocols, and
/// transports that rewrite line ends, are noticed.
const MAGIC: [u8; 6] = [0x89, b'P', b'H', b'W', b'\r', b'\n'];

/// This side's preface.
pub(crate) const PREFACE: [u8; PREFACE_LEN] = [0x89, b'P', b'H', b'W', b'\r', b'\n', VERSION, 0];

/// What the first bytes of a peer are.
pub(crate) enum Preface {
    /// Right so far: this many bytes are still to come.
    Partial(usize),
    /// A Posthaste peer that speaks this version.
    Version(u8),
    /// Something else: the first byte that differs is there.
    Foreign,
}

/// Judges the first bytes of a peer as early as possible.
pub(crate) fn judge(input: &[u8]) -> Preface {
    if input.iter().zip(&MAGIC).any(|(got, expected)| got != expected) {
        return Preface::Foreign;
    }
    match input.first_chunk::<PREFACE_LEN>() {
        // The last byte is reserved: a later version may use it, this one does not look at it.
        Some([.., version, _]) => Preface::Version(*version),
        None => Preface::Partial(PREFACE_LEN.saturating_sub(input.len())),
    }
}
