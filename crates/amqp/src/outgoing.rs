//! A channel that publishes with confirms, and is opened again when it is lost.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, PublisherConfirm};
use posthaste_core::task::lock;
use posthaste_core::{BoxFuture, Error, ErrorKind};

use crate::fault::{fault, unknown};
use crate::kit::one_turn;
use crate::link::Live;
use crate::shared::Shared;
use crate::wire::{Route, number_of};

/// Publishes messages and says what became of each.
#[derive(Default)]
pub(crate) struct Outgoing {
    open: Option<Open>,
}

struct Open {
    live: Arc<Live>,
    channel: Channel,
    returned: Arc<Returned>,
    number: u64,
}

/// What became of a published message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is in every queue that it was routed to.
    Taken,
    /// A queue that it was routed to did not take it.
    Refused,
    /// It was routed to no queue.
    Unroutable,
}

/// When it is known what became of it; `Unknown` if that cannot be known any more.
pub(crate) type Sent = BoxFuture<'static, Result<Fate, Error>>;

impl Outgoing {
    /// The version of the server that was published to last.
    pub(crate) fn version(&self) -> (u32, u32) {
        self.open.as_ref().map_or((0, 0), |open| open.live.version)
    }

    /// Opens the channel, if it is not open.
    pub(crate) async fn open(&mut self, shared: &Shared) -> Result<(), Error> {
        if self.is_open() {
            return Ok(());
        }
        self.open = None;
        let live = shared.outward.live().await?;
        let channel = shared.channel_to_exchanges(&live).await?;
        let confirming = channel.confirm_select(ConfirmSelectOptions::default()).await;
        confirming.map_err(|error| fault("confirm what is published", &error))?;
        self.open = Some(Open { live, channel, returned: Arc::default(), number: 0 });
        Ok(())
    }

    pub(crate) fn is_open(&self) -> bool {
        let is_well = |open: &Open| open.channel.status().connected() && open.live.is_connected();
        self.open.as_ref().is_some_and(is_well)
    }

    /// Hands a message to the client, in order; `properties` are made for the number that it has.
    ///
    /// # Errors
    /// It was not sent.
    pub(crate) async fn send(
        &mut self,
        shared: &Shared,
        route: &Route,
        payload: &Bytes,
        properties: impl Fn(u64) -> Result<BasicProperties, Error>,
    ) -> Result<Sent, Error> {
        // Each round has another connection, or another channel.
        for _ in 0..ROUNDS {
            self.open(shared).await?;
            let Some(open) = &mut self.open else { continue };
            open.number += 1;
            let mut sending = publish(open, route, payload.clone(), properties(open.number)?);
            let returned = Arc::clone(&open.returned);
            let (channel, number) = (open.channel.clone(), open.number);
            // Its first poll queues the frames, which keeps the order; it is ready when they are
            // written, which need not be waited for.
            match sending.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Err(_)) => self.open = None,
                Poll::Ready(Ok(confirm)) => {
                    let confirm = async move { Ok(confirm) };
                    return Ok(Box::pin(returned.fate(channel, number, confirm)));
                }
                Poll::Pending => return Ok(Box::pin(returned.fate(channel, number, sending))),
            }
        }
        let text = "the channel to rabbitmq was closed again and again; see the server's log";
        Err(Error::new(ErrorKind::Disconnected, text))
    }
}

const ROUNDS: usize = 8;

type Publishing = Pin<Box<dyn Future<Output = lapin::Result<PublisherConfirm>> + Send>>;

fn publish(open: &Open, route: &Route, payload: Bytes, properties: BasicProperties) -> Publishing {
    let (channel, exchange, key) =
        (open.channel.clone(), route.exchange.clone(), route.key.clone());
    let options = BasicPublishOptions { mandatory: true, immediate: false };
    Box::pin(
        async move { channel.basic_publish(exchange, key, options, &payload, properties).await },
    )
}

/// The numbers of messages that came back and that nobody has asked for yet.
///
/// lapin hands a returned message to whichever confirm of a batch is resolved first, so each is
/// noted here by its own number, and nobody decides before its whole batch was looked at.
#[derive(Default)]
struct Returned(Mutex<BTreeSet<u64>>);

impl Returned {
    async fn fate(
        self: Arc<Self>,
        channel: Channel,
        number: u64,
        sending: impl Future<Output = lapin::Result<PublisherConfirm>>,
    ) -> Result<Fate, Error> {
        let confirm = sending.await.map_err(|error| unknown().caused_by(error))?;
        let confirmation = confirm.await.map_err(|error| unknown().caused_by(error))?;
        let is_refused = confirmation.is_nack();
        if let Some(message) = confirmation.take_message() {
            // The number of another message of this channel, or its own.
            lock(&self.0).extend(number_of(&message.properties));
        }
        // lapin resolves a batch under one lock; once it can be had the batch is resolved, and its
        // futures are polled before this one is again.
        settle_batch(&channel);
        one_turn().await;
        Ok(match (lock(&self.0).remove(&number), is_refused) {
            (true, _) => Fate::Unroutable,
            (false, true) => Fate::Refused,
            (false, false) => Fate::Taken,
        })
    }
}

/// Passes by the lock under which a batch of confirms is resolved.
fn settle_batch(channel: &Channel) {
    let mut waiting = std::pin::pin!(channel.wait_for_confirms());
    let _passed = waiting.as_mut().poll(&mut Context::from_waker(Waker::noop()));
}
