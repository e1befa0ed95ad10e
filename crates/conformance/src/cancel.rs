//! Giving up: a future that is polled so many times and then dropped, for every number of times
//! until it ends, and at random.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;

use crate::failure::{Failure, Outcome};
use crate::poll::{Probe, yield_now};
use crate::random::Xorshift;

/// No operation needs as many polls: one that does would never end.
const POLLS_MAX: usize = 1_000;

/// Opens a world, polls the future of `act` once, twice, .. and drops it, each time in a world of
/// its own, until it ends before it is dropped. After each, `check` looks at what is left of the
/// world: the side that acted, the other side, and the output if the future ended.
///
/// The future is polled as an executor polls it, again only when it was woken, so that a lost
/// wake-up hangs. Each number of polls is tried twice: dropped at once, and dropped when the wake-up
/// for the next poll has come already. While a future waits, `meanwhile` runs on the other side; it
/// is dropped too when the wake-up comes, and may go on for ever.
///
/// ```
/// use posthaste_conformance::{block_on, cancel};
/// use posthaste_core::{Broker, ReceiverExt, SenderExt, SenderOptions, Subscription, Message, Topic};
/// use posthaste_memory::Memory;
///
/// let memory = Memory::new();
/// let receiving = async {
///     let jobs = Topic::new("jobs").unwrap();
///     cancel::at_every_poll(
///         async || {
///             let receiver = memory.receiver(Subscription::queue(&jobs)?).await?;
///             Ok((receiver, memory.sender(SenderOptions::new()).await?))
///         },
///         async |receiver| receiver.next_delivery().await,
///         async |sender| {
///             sender.send(Message::to_queue(jobs.clone(), "work")).await?;
///             std::future::pending().await
///         },
///         async |_, _, _| Ok(()),
///     )
///     .await
///     .unwrap();
/// };
/// assert!(block_on(Box::pin(receiving), std::time::Duration::ZERO));
/// ```
///
/// # Errors
/// What any of them answers, and after how many polls.
///
/// # Cancel safety
/// Safe: the world that is open is dropped.
pub async fn at_every_poll<S, H, T>(
    mut open: impl AsyncFnMut() -> Result<(S, H), Failure>,
    mut act: impl AsyncFnMut(&mut S) -> T,
    mut meanwhile: impl AsyncFnMut(&mut H) -> Outcome,
    mut check: impl AsyncFnMut(S, H, Option<T>) -> Outcome,
) -> Outcome {
    for polls in 0..POLLS_MAX {
        let mut ended = true;
        for drop_woken in [false, true] {
            let (mut actor, mut other) = open().await?;
            let output = {
                let acting = pin!(act(&mut actor));
                give_up(acting, polls, drop_woken, async || meanwhile(&mut other).await).await
            };
            let output = output.map_err(|failure| failure.after(polls))?;
            ended &= output.is_some();
            check(actor, other, output).await.map_err(|failure| failure.after(polls))?;
        }
        if ended {
            return Ok(());
        }
    }
    Err(Failure::new(format!("{POLLS_MAX} polls do not end it")))
}

/// Polls `future` so many times, then drops it, perhaps only once it was woken again.
async fn give_up<F: Future>(
    mut future: Pin<&mut F>,
    polls: usize,
    drop_woken: bool,
    mut meanwhile: impl AsyncFnMut() -> Outcome,
) -> Result<Option<F::Output>, Failure> {
    let probe = Probe::new();
    for nth in 1..=polls {
        if let Poll::Ready(output) = probe.poll(&mut future) {
            return Ok(Some(output));
        }
        if nth < polls || drop_woken {
            woken_beside(&probe, meanwhile()).await?;
        }
    }
    Ok(None)
}

/// Waits for the wake-up while the other side goes on.
async fn woken_beside(probe: &Probe, meanwhile: impl Future<Output = Outcome>) -> Outcome {
    let (mut woken, mut meanwhile) = (pin!(probe.woken()), pin!(meanwhile));
    let mut over = false;
    poll_fn(|cx| {
        if woken.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        if !over && let Poll::Ready(outcome) = meanwhile.as_mut().poll(cx) {
            outcome?;
            over = true;
            // What it did last may be what wakes it.
            return woken.as_mut().poll(cx).map(Ok);
        }
        Poll::Pending
    })
    .await
}

/// Gives futures up at random, as the losing arms of a `select!` are.
#[derive(Debug)]
pub struct Whim {
    random: Xorshift,
    given_up: usize,
}

impl Whim {
    /// The same whims in every run with the same seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { random: Xorshift::new(seed), given_up: 0 }
    }

    /// Polls `future` a few times at most, perhaps not at all, letting others go on now and then;
    /// `None` if it was given up.
    ///
    /// # Cancel safety
    /// As safe as `future` itself.
    pub async fn poll<F: Future>(&mut self, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        for _ in 0..self.random.below(4) {
            let polled = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await;
            if let Poll::Ready(output) = polled {
                return Some(output);
            }
            if self.random.below(4) == 0 {
                yield_now().await;
            }
        }
        self.given_up += 1;
        None
    }

    /// How many futures were given up so far.
    #[must_use]
    pub fn given_up(&self) -> usize {
        self.given_up
    }

    /// A number below `bound`, which is not 0.
    #[must_use]
    pub fn below(&mut self, bound: usize) -> usize {
        self.random.below(bound)
    }
}
