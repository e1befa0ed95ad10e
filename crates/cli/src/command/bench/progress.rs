//! How far a measurement is, on a terminal.

use std::pin::pin;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// The steps of a round.
const STEPS: f64 = 1_000.0;
/// Often enough to be seen moving, and too seldom to be a part of what is measured.
const REDRAW: Duration = Duration::from_millis(100);

/// A bar on stderr, where that is a terminal.
#[derive(Debug)]
pub(super) struct Progress {
    bar: ProgressBar,
    rounds_done: u64,
}

impl Progress {
    pub(super) fn new(rounds: usize) -> Self {
        let rounds = u64::try_from(rounds).unwrap_or(u64::MAX);
        let bar = ProgressBar::new(rounds.saturating_mul(STEPS as u64));
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {percent:>3} %  {wide_msg}") {
            bar.set_style(style);
        }
        Self { bar, rounds_done: 0 }
    }

    /// Says what comes now, and awaits it.
    pub(super) async fn prepare<T>(&self, what: String, work: impl Future<Output = T>) -> T {
        self.bar.set_message(what);
        self.bar.tick();
        work.await
    }

    /// Awaits one round, of which `done` tells how far it is, from 0 to 1.
    pub(super) async fn round<T>(
        &mut self,
        what: String,
        done: impl Fn() -> f64,
        work: impl Future<Output = T>,
    ) -> T {
        self.bar.set_message(what);
        let outcome = match self.bar.is_hidden() {
            // Nobody looks: then nothing disturbs the round.
            true => work.await,
            false => self.watch(done, work).await,
        };
        self.rounds_done += 1;
        self.bar.set_position(self.rounds_done * STEPS as u64);
        outcome
    }

    async fn watch<T>(&self, done: impl Fn() -> f64, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        let mut redraw = tokio::time::interval(REDRAW);
        loop {
            tokio::select! {
                biased;
                outcome = &mut work => return outcome,
                _ = redraw.tick() => {
                    let steps = (done().clamp(0.0, 1.0) * STEPS) as u64;
                    self.bar.set_position(self.rounds_done * STEPS as u64 + steps);
                    // Also where it did not move.
                    self.bar.tick();
                }
            }
        }
    }

    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}
