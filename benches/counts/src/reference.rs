//! What others cost at the same work, for reference: channels, and sockets without a framework.

use posthaste::{Error, Message, SharedRuntime, Topic};

use crate::executor::{Task, run};
use crate::in_process::{CAPACITY, PAYLOAD};

/// A message through async-channel.
pub(crate) async fn async_channel(runtime: SharedRuntime, count: u64) -> Result<(), Error> {
    let (sender, receiver) = async_channel::bounded(CAPACITY);
    let message = Message::new(Topic::new("home.kitchen")?, &PAYLOAD[..]);
    let sending = async move {
        for _ in 0..count {
            let sent = sender.send(message.clone()).await;
            sent.map_err(|_| Error::closed("the channel"))?;
        }
        Ok(())
    };
    let taking = async move {
        for _ in 0..count {
            receiver.recv().await.map_err(|_| Error::closed("the channel"))?;
        }
        Ok(())
    };
    let tasks: Vec<Task> = vec![Box::pin(taking), Box::pin(sending)];
    run(&runtime, tasks).await
}

/// A message through kanal.
pub(crate) async fn kanal(runtime: SharedRuntime, count: u64) -> Result<(), Error> {
    let (sender, receiver) = kanal::bounded_async(CAPACITY);
    let message = Message::new(Topic::new("home.kitchen")?, &PAYLOAD[..]);
    let sending = async move {
        for _ in 0..count {
            let sent = sender.send(message.clone()).await;
            sent.map_err(|_| Error::closed("the channel"))?;
        }
        Ok(())
    };
    let taking = async move {
        for _ in 0..count {
            receiver.recv().await.map_err(|_| Error::closed("the channel"))?;
        }
        Ok(())
    };
    let tasks: Vec<Task> = vec![Box::pin(taking), Box::pin(sending)];
    run(&runtime, tasks).await
}
