//! Sending through a client: the handle that takes messages, and the task that hands them on.

mod task;
mod window;

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use posthaste_core::limits::PAYLOAD_BYTES_MAX;
use posthaste_core::task::{lock, remember};
use posthaste_core::{
    BoxSender, Capabilities, Capability, Error, ErrorKind, Message, Receipt, Returned, Sender,
    SenderOptions, Seq,
};

use self::window::Window;
use crate::books::Books;
use crate::drain::Drains;
use crate::{Engine, Publish};

impl Engine {
    /// A sender whose messages go out through `publisher`, which a task of the runtime drives until
    /// the sender is gone and everything that it took has its outcome.
    pub fn sender(&self, options: &SenderOptions, publisher: impl Publish) -> BoxSender {
        let window = Window::new(options);
        let shared =
            Arc::new(Shared { window: Mutex::new(window), books: Arc::clone(&self.books) });
        self.handles.add(&shared);
        self.spawn(task::run(Arc::clone(&shared), publisher));
        Box::new(EngineSender { shared, card: Arc::clone(&self.card), closed: false })
    }
}

/// What the handle and its task share.
pub(crate) struct Shared {
    window: Mutex<Window>,
    books: Arc<Books>,
}

impl Shared {
    /// Changes the window, and then wakes whoever that is of interest to.
    fn with<T>(&self, change: impl FnOnce(&mut Window) -> T) -> T {
        let mut window = lock(&self.window);
        let changed = change(&mut window);
        let wakers = window.due_wakers();
        drop(window);
        for waker in wakers.into_iter().flatten() {
            waker.wake();
        }
        changed
    }
}

impl Drains for Shared {
    fn begin(&self) -> (u64, u64) {
        self.with(|window| window.draining = true);
        (0, 0)
    }

    fn poll_done(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.with(|window| {
            if window.is_decided(Seq::new(u64::MAX)) {
                return Poll::Ready(());
            }
            remember(&mut window.drainer, cx);
            Poll::Pending
        })
    }

    fn leased(&self) -> u64 {
        0
    }
}

/// A sender over a client.
struct EngineSender {
    shared: Arc<Shared>,
    card: Arc<Capabilities>,
    closed: bool,
}

impl Sender for EngineSender {
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        slot: &mut Option<Message>,
    ) -> Poll<Result<Seq, Error>> {
        if self.closed {
            return Poll::Ready(Err(Error::closed("the sender")));
        }
        let Some(message) = slot.as_ref() else {
            let text = "there is no message in the slot; put one there";
            return Poll::Ready(Err(Error::new(ErrorKind::InvalidArgument, text)));
        };
        check(message, &self.card)?;
        let size = message.size();
        let books = &self.shared.books;
        self.shared.with(|window| {
            if let Some(error) = window.failure() {
                return Poll::Ready(Err(error));
            }
            if !window.has_room(size) {
                remember(&mut window.sender, cx);
                return Poll::Pending;
            }
            window.sender = None;
            match slot.take() {
                Some(message) => {
                    books.took(1);
                    Poll::Ready(Ok(window.take(message, size)))
                }
                None => Poll::Pending,
            }
        })
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>, upto: Seq) -> Poll<Result<Receipt, Error>> {
        self.shared.with(|window| {
            if !window.is_decided(upto) {
                window.awaited = upto;
                remember(&mut window.flusher, cx);
                return Poll::Pending;
            }
            window.flusher = None;
            Poll::Ready(Ok(window.take_receipt()))
        })
    }

    fn take_returned(&mut self, from: Seq) -> Option<Returned> {
        lock(&self.shared.window).take_returned(from)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.closed = true;
        self.shared.with(|window| {
            window.closed = true;
            if !window.is_decided(Seq::new(u64::MAX)) {
                window.awaited = Seq::new(u64::MAX);
                remember(&mut window.flusher, cx);
                return Poll::Pending;
            }
            window.flusher = None;
            Poll::Ready(Ok(()))
        })
    }

    fn disarm(&mut self) {
        let mut window = lock(&self.shared.window);
        (window.sender, window.flusher) = (None, None);
    }
}

impl Drop for EngineSender {
    fn drop(&mut self) {
        // What was taken is sent all the same; the task ends after it.
        self.shared.with(|window| {
            window.closed = true;
            (window.sender, window.flusher) = (None, None);
        });
    }
}

/// Whether a message is within the limits and asks for nothing that the engine lacks.
fn check(message: &Message, card: &Capabilities) -> Result<(), Error> {
    message.check_size(PAYLOAD_BYTES_MAX)?;
    // Answers go to inboxes, whatever else there is to send to.
    let answers = message.correlation() != 0 && message.reply_to().is_none();
    match message.is_to_queue() {
        true => card.require(Capability::Queues)?,
        false if answers => card.require(Capability::Inboxes)?,
        false => card.require(Capability::Topics).or(card.require(Capability::Groups))?,
    }
    if message.deadline().is_some() {
        card.require(Capability::Deadlines)?;
    }
    if !message.delay().is_zero() {
        card.require(Capability::Delay)?;
    }
    if message.priority() > 0 {
        card.require(Capability::Priority)?;
    }
    Ok(())
}
