//! Polling by hand: a waker that counts, futures given up half-way, and joins.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use posthaste_core::task::{lock, remember};

use crate::Failure;

/// A boxed future that stays on the thread that blocks on it.
pub type LocalFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Runs `future` on this thread, without any executor, and says whether it ended.
///
/// It gives up once nothing has woken the future for `patience`. With a subject that has no other
/// thread, nobody but the future itself can wake it, so a patience of zero turns every hang into
/// an immediate answer. It also gives up on a future that wakes itself over and over.
pub fn block_on(future: LocalFuture<'_, ()>, patience: Duration) -> bool {
    let parker = Arc::new(Parker::default());
    let waker = Waker::from(Arc::clone(&parker));
    let mut cx = Context::from_waker(&waker);
    let mut future = future;
    for _ in 0..POLLS_MAX {
        if future.as_mut().poll(&mut cx).is_ready() {
            return true;
        }
        let woken = lock(&parker.woken);
        let waited = parker.condvar.wait_timeout_while(woken, patience, |woken| !*woken);
        let (mut woken, _) = waited.unwrap_or_else(std::sync::PoisonError::into_inner);
        if !std::mem::take(&mut *woken) {
            return false;
        }
    }
    false
}

/// Far more polls than any case takes.
const POLLS_MAX: usize = 100_000;

#[derive(Default)]
struct Parker {
    woken: Mutex<bool>,
    condvar: Condvar,
}

impl Wake for Parker {
    fn wake(self: Arc<Self>) {
        *lock(&self.woken) = true;
        self.condvar.notify_one();
    }
}

/// Polls futures with a waker of its own and notices when that is woken.
#[derive(Debug)]
pub(crate) struct Probe {
    state: Arc<ProbeState>,
    waker: Waker,
}

#[derive(Debug, Default)]
struct ProbeState {
    wakes: AtomicUsize,
    parent: Mutex<Option<Waker>>,
}

impl Probe {
    pub(crate) fn new() -> Self {
        let state = Arc::new(ProbeState::default());
        let waker = Waker::from(Arc::clone(&state));
        Self { state, waker }
    }

    /// Polls once, forgetting earlier wake-ups.
    pub(crate) fn poll<F: Future + Unpin + ?Sized>(&self, future: &mut F) -> Poll<F::Output> {
        self.with(|cx| Pin::new(future).poll(cx))
    }

    /// Runs a poll function once, forgetting earlier wake-ups.
    pub(crate) fn with<T>(&self, poll: impl FnOnce(&mut Context<'_>) -> T) -> T {
        self.state.wakes.store(0, Ordering::SeqCst);
        poll(&mut Context::from_waker(&self.waker))
    }

    /// Whether a wake-up came since the last poll.
    pub(crate) fn is_woken(&self) -> bool {
        self.state.wakes.load(Ordering::SeqCst) > 0
    }

    /// Resolves once a wake-up has come since the last poll.
    pub(crate) async fn woken(&self) {
        poll_fn(|cx| {
            remember(&mut lock(&self.state.parent), cx);
            if self.is_woken() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Polls a future that was pending to its end, only ever after a wake-up: a lost one hangs.
    pub(crate) async fn finish<F: Future + Unpin + ?Sized>(&self, future: &mut F) -> F::Output {
        loop {
            self.woken().await;
            if let Poll::Ready(output) = self.poll(future) {
                return output;
            }
        }
    }
}

impl Wake for ProbeState {
    fn wake(self: Arc<Self>) {
        self.wakes.fetch_add(1, Ordering::SeqCst);
        let parent = lock(&self.parent).take();
        if let Some(parent) = parent {
            parent.wake();
        }
    }
}

/// Polls `future` up to `polls` times, letting others run in between, then drops it: `None`.
pub(crate) async fn give_up_after<F: Future>(polls: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    for _ in 0..polls {
        let polled = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await;
        if let Poll::Ready(output) = polled {
            return Some(output);
        }
        yield_now().await;
    }
    None
}

/// Runs `future` and then goes on for ever, so that it may be polled however often.
pub(crate) fn for_ever<'a, T>(
    future: impl Future<Output = Result<T, Failure>> + 'a,
) -> LocalFuture<'a, Result<(), Failure>> {
    Box::pin(async {
        future.await?;
        std::future::pending().await
    })
}

/// Lets other tasks run once.
pub(crate) async fn yield_now() {
    let mut yielded = false;
    poll_fn(|cx| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Runs both at once in this task; the first error ends both.
pub(crate) async fn both<A, B>(
    left: impl Future<Output = Result<A, Failure>>,
    right: impl Future<Output = Result<B, Failure>>,
) -> Result<(A, B), Failure> {
    let (mut left, mut right) = (pin!(left), pin!(right));
    let (mut a, mut b) = (None, None);
    poll_fn(|cx| {
        if a.is_none()
            && let Poll::Ready(done) = left.as_mut().poll(cx)
        {
            a = Some(done?);
        }
        if b.is_none()
            && let Poll::Ready(done) = right.as_mut().poll(cx)
        {
            b = Some(done?);
        }
        match (a.take(), b.take()) {
            (Some(a), Some(b)) => Poll::Ready(Ok((a, b))),
            (left, right) => {
                (a, b) = (left, right);
                Poll::Pending
            }
        }
    })
    .await
}

/// Runs all at once in this task; the first error ends all.
pub(crate) async fn all<'a, T>(
    futures: impl IntoIterator<Item = LocalFuture<'a, Result<T, Failure>>>,
) -> Result<Vec<T>, Failure> {
    let mut running: Vec<_> = futures.into_iter().map(|future| (Some(future), None)).collect();
    poll_fn(|cx| {
        let mut pending = false;
        for (future, output) in &mut running {
            let Some(poll) = future else { continue };
            match poll.as_mut().poll(cx) {
                Poll::Ready(done) => (*future, *output) = (None, Some(done?)),
                Poll::Pending => pending = true,
            }
        }
        if pending {
            return Poll::Pending;
        }
        Poll::Ready(Ok(running.iter_mut().filter_map(|(_, output)| output.take()).collect()))
    })
    .await
}
