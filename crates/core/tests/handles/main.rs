//! The futures of senders and receivers over handles that do what a test tells them.

mod receiving;
mod sending;

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// Polls once, with a waker that wakes nobody.
fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}
