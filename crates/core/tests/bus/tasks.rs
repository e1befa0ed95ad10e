//! An executor in which a test decides which woken task is polled next.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

/// One task. It starts out woken, as a spawned task does.
pub(crate) struct Task<T> {
    future: Option<Pin<Box<dyn Future<Output = T> + Send>>>,
    signal: Arc<Signal>,
    pub(crate) output: Option<T>,
}

#[derive(Default)]
struct Signal {
    woken: AtomicBool,
    count: AtomicUsize,
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.count.fetch_add(1, Ordering::SeqCst);
        self.woken.store(true, Ordering::SeqCst);
    }
}

impl<T> Task<T> {
    pub(crate) fn new<F>(future: F) -> Self
    where
        F: IntoFuture<Output = T>,
        F::IntoFuture: Send + 'static,
    {
        let signal = Arc::<Signal>::default();
        signal.woken.store(true, Ordering::SeqCst);
        Self { future: Some(Box::pin(future.into_future())), signal, output: None }
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.future.is_some()
    }

    pub(crate) fn is_woken(&self) -> bool {
        self.is_alive() && self.signal.woken.load(Ordering::SeqCst)
    }

    /// How often the task has been woken.
    pub(crate) fn wakes(&self) -> usize {
        self.signal.count.load(Ordering::SeqCst)
    }

    pub(crate) fn drop_future(&mut self) {
        self.future = None;
    }

    /// Polls whether it was woken or not.
    pub(crate) fn poll(&mut self) -> bool {
        let Some(future) = &mut self.future else {
            return true;
        };
        self.signal.woken.store(false, Ordering::SeqCst);
        let waker = Waker::from(Arc::clone(&self.signal));
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            self.future = None;
            self.output = Some(output);
        }
        self.output.is_some()
    }

    /// Polls as long as it is woken.
    pub(crate) fn run(&mut self) -> Option<T> {
        while self.is_woken() {
            self.poll();
        }
        self.output.take()
    }
}

/// Polls whoever is woken until nobody is.
pub(crate) fn settle<T>(tasks: &mut [Task<T>]) {
    while let Some(task) = tasks.iter_mut().find(|task| task.is_woken()) {
        task.poll();
    }
}
