//! TCP as every runtime shows it.

mod accepting;
mod addresses;
mod bytes;
mod laws;
mod support;
