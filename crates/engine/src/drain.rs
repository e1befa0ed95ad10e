//! Draining a client: nothing more is taken, what was handed out is waited for, what was not goes
//! back.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::channel::oneshot;
use futures::future::{Shared, join_all};
use posthaste_core::runtime::timeout_at;
use posthaste_core::task::lock;
use posthaste_core::{DrainReport, Error};

use crate::Engine;

/// A handle, as a drain sees it.
pub(crate) trait Drains: Send + Sync {
    /// Takes nothing more; how many go back unseen, and how many are handed out.
    fn begin(&self) -> (u64, u64);
    /// Ready once everything has its outcome and nothing is handed out.
    fn poll_done(&self, cx: &mut Context<'_>) -> Poll<()>;
    /// How many are still handed out.
    fn leased(&self) -> u64;
    /// Resolves once a receiver that is closed has taken leave of the engine; `None` if there is
    /// nothing to wait for.
    fn leaving(&self) -> Option<Leaving> {
        None
    }
}

/// The leave-taking of a receiver.
pub(crate) type Leaving = Shared<oneshot::Receiver<()>>;

/// The handles of a client.
#[derive(Default)]
pub(crate) struct Handles(Mutex<State>);

#[derive(Default)]
struct State {
    handles: Vec<Weak<dyn Drains>>,
    draining: bool,
}

impl Handles {
    /// Adds a handle; whether it is too late for it.
    pub(crate) fn add(&self, handle: &Arc<impl Drains + 'static>) {
        let handle: Arc<dyn Drains> = Arc::clone(handle) as _;
        let mut state = lock(&self.0);
        if state.draining {
            drop(state);
            handle.begin();
            return;
        }
        if state.handles.len() == state.handles.capacity() {
            state.handles.retain(|handle| handle.strong_count() > 0);
        }
        state.handles.push(Arc::downgrade(&handle));
    }

    fn begin(&self) -> Vec<Arc<dyn Drains>> {
        lock(&self.0).draining = true;
        self.all()
    }

    fn all(&self) -> Vec<Arc<dyn Drains>> {
        lock(&self.0).handles.iter().filter_map(Weak::upgrade).collect()
    }
}

impl Engine {
    /// Waits until the receivers that were closed or dropped before have taken leave of the engine,
    /// so that whoever opens another finds them gone; for a few seconds at most.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn others_left(&self) {
        let leaving = self.handles.all().into_iter().filter_map(|handle| handle.leaving());
        let left = join_all(leaving.collect::<Vec<_>>());
        let deadline = self.runtime.now() + LEAVE_WITHIN;
        // Whoever takes longer is not waited for.
        let _left = timeout_at(&*self.runtime, deadline, left).await;
    }

    /// Stops taking, waits `within` for what was handed out and for what was sent, gives back what
    /// was not seen, and reports. What the engine holds stays there.
    ///
    /// # Errors
    /// None so far.
    ///
    /// # Cancel safety
    /// Safe to call again; the client stays closed to new messages.
    pub async fn drain(&self, within: Duration) -> Result<DrainReport, Error> {
        let handles = self.handles.begin();
        let (mut requeued, mut leased) = (0, 0);
        for handle in &handles {
            let begun = handle.begin();
            requeued += begun.0;
            leased += begun.1;
        }
        let done = poll_fn(|cx| {
            // Every one is asked, so that every one knows whom to wake.
            let pending = handles.iter().filter(|handle| handle.poll_done(cx).is_pending());
            if pending.count() > 0 { Poll::Pending } else { Poll::Ready(()) }
        });
        let now = self.runtime.now();
        let deadline = now.checked_add(within).unwrap_or(now + FOR_EVER);
        timeout_at(&*self.runtime, deadline, done).await;
        let abandoned: u64 = handles.iter().map(|handle| handle.leased()).sum();
        let finished = leased.saturating_sub(abandoned);
        Ok(DrainReport { finished, requeued, abandoned, held: 0 })
    }
}

/// How long is waited for those who leave.
const LEAVE_WITHIN: Duration = Duration::from_secs(5);

/// Longer than any process lives.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 3_600);
