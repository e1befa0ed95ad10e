//! Hostile bytes against everything that reads them: what each fuzz target does with one string of
//! bytes.
//!
//! The programs that make the strings up are in `fuzz/fuzz_targets`; the tests here run what was
//! found before, and as much as a second allows, on any toolchain.

mod choices;
mod decode;
mod drive;
pub mod frames;
mod link;
mod machine;
mod pair;
pub mod scene;
mod weigh;

pub use choices::{Choices, seeded};
pub use decode::{fields, frame, head, records};
pub use drive::{session_client, session_frames, session_server};
pub use link::link;
pub use pair::converse as session_pair;

/// What a target does with a string of bytes; it panics if something is wrong.
pub type Target = fn(&[u8]);

/// Every target, by the name of its program and of its corpus.
pub const TARGETS: [(&str, Target); 9] = [
    ("fields", fields),
    ("frame", frame),
    ("head", head),
    ("link", link),
    ("records", records),
    ("session_client", session_client),
    ("session_frames", session_frames),
    ("session_pair", session_pair),
    ("session_server", session_server),
];
