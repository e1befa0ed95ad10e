//! The books of a client: what became of the messages that its senders took.

use std::sync::Mutex;

use posthaste_core::Sends;
use posthaste_core::task::lock;

/// Counted together, so that whoever looks sees books that balance.
#[derive(Debug, Default)]
pub(crate) struct Books(Mutex<Sends>);

impl Books {
    pub(crate) fn sends(&self) -> Sends {
        *lock(&self.0)
    }

    pub(crate) fn took(&self, messages: u64) {
        let mut sends = lock(&self.0);
        sends.taken += messages;
        sends.pending += messages;
    }

    pub(crate) fn ended(&self, confirmed: u64, returned: u64) {
        let mut sends = lock(&self.0);
        sends.confirmed += confirmed;
        sends.returned += returned;
        sends.pending -= confirmed + returned;
    }
}
