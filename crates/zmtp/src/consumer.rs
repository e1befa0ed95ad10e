//! Receiving: taking messages out of a box of the node.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;

use posthaste_core::runtime::timeout_at;
use posthaste_core::{Capability, Error, Message};
use posthaste_engine::{Arrival, Consume, Settled, Verdict};

use crate::Alive;
use crate::lane::Lane;
use crate::node::{Item, Seat, What};

/// What the task of a receiver drives. `HOLDS` says whether what it does not take stays where it is
/// until senders are held up.
pub(crate) struct Taking<const HOLDS: bool> {
    alive: Arc<Alive>,
    seat: Option<Seat>,
    number: u64,
    /// What the others have in common who may have what this one gives back.
    shared: Option<What>,
}

impl<const HOLDS: bool> Taking<HOLDS> {
    pub(crate) fn new(alive: Arc<Alive>, seat: Seat, shared: Option<What>) -> Self {
        Self { alive, number: seat.number, seat: Some(seat), shared }
    }
}

impl<const HELD: bool> Consume for Taking<HELD> {
    type Token = ();

    const HOLDS: bool = HELD;

    async fn next(&mut self) -> Result<Option<Arrival<()>>, Error> {
        let node = &self.alive.node;
        let number = self.number;
        let item = poll_fn(|cx| node.with(|state| state.poll_take(number, cx))).await;
        let token = self.shared.as_ref().map(|_| ());
        Ok(item.map(|Item { message, attempt }| Arrival { message, attempt, token }))
    }

    async fn settle(&mut self, settled: Vec<Settled<()>>) -> Result<(), Error> {
        let mut back = VecDeque::new();
        let mut refused = None;
        for Settled { message, attempt, verdict, .. } in settled {
            let attempt = match verdict {
                Verdict::Unseen | Verdict::Release => attempt,
                Verdict::Retry { after, .. } => {
                    if !after.is_zero() {
                        let error = Error::unsupported(Capability::RetryDelay, crate::BACKEND);
                        refused = Some(error);
                    }
                    attempt.saturating_add(1)
                }
                // Nothing is kept for another time, and who asked has been told.
                _ => continue,
            };
            back.push_back(Item { message, attempt });
        }
        let node = &self.alive.node;
        if let Some(what) = &self.shared {
            node.with(|state| state.put_back(what, back, &node.id));
        }
        refused.map_or(Ok(()), Err)
    }

    async fn stop(&mut self) {
        let Some(seat) = self.seat.take() else { return };
        drop(seat);
        // From here on nothing is counted for this one: peers say when they know that it has gone.
        let node = &self.alive.node;
        let marks = node.ping(&[Lane::Subscribe, Lane::Answer, Lane::Pull]);
        let deadline = node.runtime.now() + node.options.patience;
        let _late = timeout_at(&*node.runtime, deadline, node.reached(&marks)).await;
    }

    async fn answer(&mut self, message: Message) {
        let node = &self.alive.node;
        if node.with(|state| state.is_answered(&message)) {
            return;
        }
        let high = node.high_water();
        let answering =
            node.until(|state| state.poll_answer(&node.id, &message, &*node.runtime, &high));
        // Who does not read its answers holds nobody up.
        let deadline = node.runtime.now() + node.options.patience;
        let _late = timeout_at(&*node.runtime, deadline, answering).await;
    }
}
