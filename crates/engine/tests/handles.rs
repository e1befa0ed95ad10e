//! What the handles do with a client: when it is asked to confirm, and when it is asked to flush.

#![allow(clippy::unwrap_used, reason = "a test")]

use async_channel::{Receiver, Sender, bounded};
use posthaste_core::{
    BoxFuture, Capabilities, Capability, Error, ErrorKind, Level, Message, Overflow, ReceiverExt,
    SenderExt, SenderOptions, Status, Subscription, Topic,
};
use posthaste_engine::{Arrival, Confirmation, Confirmed, Consume, Engine, Publish, Settled};
use posthaste_smol::Smol;

fn engine() -> Engine {
    let card = Capabilities::new("a client of this test");
    let card = card.native(&[Capability::Topics, Capability::Queues, Capability::ManualAck]);
    Engine::new(Smol::global().into(), card)
}

fn queue() -> Topic {
    Topic::new("jobs").unwrap()
}

/// What was asked of a client.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Settle(usize),
    Confirm,
    Publish(String),
    Flush,
}

/// A client that hands over what is in a channel, and refuses to settle what it does not like.
struct Source {
    arrivals: Receiver<Arrival<()>>,
    asked: Sender<Asked>,
}

impl Consume for Source {
    type Token = ();

    async fn next(&mut self) -> Result<Option<Arrival<()>>, Error> {
        Ok(self.arrivals.recv().await.ok())
    }

    async fn settle(&mut self, settled: Vec<Settled<()>>) -> Result<(), Error> {
        self.asked.send(Asked::Settle(settled.len())).await.unwrap();
        match settled.iter().any(|settled| settled.message.payload() == "bad") {
            true => Err(Error::new(ErrorKind::Disconnected, "it did not hear of it")),
            false => Ok(()),
        }
    }

    async fn confirm(&mut self) -> Result<(), Error> {
        self.asked.send(Asked::Confirm).await.unwrap();
        Ok(())
    }

    async fn stop(&mut self) {}

    async fn answer(&mut self, _message: Message) {}
}

#[test]
fn what_is_settled_is_confirmed_when_somebody_waits_for_it() {
    let ((put, arrivals), (ask, asked)) = (bounded(256), bounded(256));
    let subscription = Subscription::queue(queue()).unwrap();
    let mut receiver = engine().receiver(&subscription, Source { arrivals, asked: ask });
    smol::block_on(async {
        for payload in ["one", "two", "bad"] {
            let message = Message::to_queue(queue(), payload);
            put.send(Arrival { message, attempt: 1, token: Some(()) }).await.unwrap();
            receiver.recv().await.unwrap().unwrap().ack();
            // It is told at once, and nobody has the client confirm it.
            assert_eq!(asked.recv().await, Ok(Asked::Settle(1)));
        }
        let failed = receiver.settled().await.unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::Disconnected);
        assert_eq!(asked.recv().await, Ok(Asked::Confirm));
        // What is confirmed is not confirmed again, and an error is told once.
        receiver.settled().await.unwrap();
        receiver.close().await.unwrap();
        drop(receiver);
        assert!(asked.recv().await.is_err(), "there was nothing more to be asked");
    });
}

/// A client that cannot wait for its receiver.
struct Live {
    arrivals: Receiver<Arrival<()>>,
    answers: Sender<Message>,
}

impl Consume for Live {
    type Token = ();

    const HOLDS: bool = false;

    async fn next(&mut self) -> Result<Option<Arrival<()>>, Error> {
        Ok(self.arrivals.recv().await.ok())
    }

    async fn settle(&mut self, _settled: Vec<Settled<()>>) -> Result<(), Error> {
        Ok(())
    }

    async fn stop(&mut self) {}

    async fn answer(&mut self, message: Message) {
        self.answers.send(message).await.unwrap();
    }
}

#[test]
fn whoever_asks_a_full_subscription_is_told_that_nobody_answers() {
    for (overflow, told) in [
        (Overflow::DropNewest, [3, 4]),
        (Overflow::DropOldest, [1, 2]),
        // It is cut off, and whoever asks then finds nobody.
        (Overflow::Disconnect, [3, 4]),
    ] {
        let ((put, arrivals), (answers, answered)) = (bounded(256), bounded(256));
        let all = Subscription::topic("service").unwrap().capacity(2, 1 << 20).overflow(overflow);
        // All of them come at once: one that is cut off takes nothing in any more.
        for number in 1..=4 {
            let request = Message::builder(Topic::new("service").unwrap());
            let inbox = Topic::new("inbox").unwrap();
            let message = request.reply_to(inbox, number).build().unwrap();
            put.try_send(Arrival { message, attempt: 1, token: None }).unwrap();
        }
        let mut receiver = engine().receiver(&all, Live { arrivals, answers });
        smol::block_on(async {
            for number in told {
                let answer = answered.recv().await.unwrap();
                assert_eq!(answer.correlation(), number, "{overflow}");
                assert_eq!(answer.status(), Some(Status::NoResponders));
            }
            // The others are still to be had.
            receiver.recv().await.unwrap().unwrap().ack();
            receiver.recv().await.unwrap().unwrap().ack();
        });
    }
}

/// A client that takes its time to leave.
struct Slow {
    begun: Sender<()>,
    gate: Receiver<()>,
}

impl Consume for Slow {
    type Token = ();

    async fn next(&mut self) -> Result<Option<Arrival<()>>, Error> {
        std::future::pending().await
    }

    async fn settle(&mut self, _settled: Vec<Settled<()>>) -> Result<(), Error> {
        Ok(())
    }

    async fn stop(&mut self) {
        self.begun.send(()).await.unwrap();
        self.gate.recv().await.unwrap();
    }

    async fn answer(&mut self, _message: Message) {}
}

#[test]
fn whoever_opens_another_waits_for_those_who_leave() {
    let ((begin, begun), (open, gate)) = (bounded(256), bounded(256));
    let (engine, all) = (engine(), Subscription::topic("news").unwrap());
    let slow = || Slow { begun: begin.clone(), gate: gate.clone() };
    let (leaving, staying) = (engine.receiver(&all, slow()), engine.receiver(&all, slow()));
    smol::block_on(async {
        // One that stays is not waited for.
        engine.others_left().await;
        drop(leaving);
        begun.recv().await.unwrap();
        let mut others = std::pin::pin!(engine.others_left());
        assert!(futures::poll!(others.as_mut()).is_pending());
        open.send(()).await.unwrap();
        others.await;
        drop(staying);
    });
}

/// A client whose flushes are done when the test says so.
struct Target {
    asked: Sender<Asked>,
    gate: Receiver<Result<(), Error>>,
}

impl Publish for Target {
    async fn publish(&mut self, message: &Message) -> Result<Confirmation, Error> {
        let payload = String::from_utf8_lossy(message.payload()).into_owned();
        self.asked.send(Asked::Publish(payload)).await.unwrap();
        Ok(Confirmation::Now(Confirmed { matched: 1, level: Level::Sent, nodes: 0 }))
    }

    fn flush(&mut self) -> BoxFuture<'static, Result<(), Error>> {
        let (asked, gate) = (self.asked.clone(), self.gate.clone());
        Box::pin(async move {
            asked.send(Asked::Flush).await.unwrap();
            gate.recv().await.unwrap()
        })
    }
}

#[test]
fn messages_are_handed_over_while_a_flush_is_under_way() {
    let ((ask, asked), (open, gate)) = (bounded(256), bounded(256));
    let mut sender = engine().sender(&SenderOptions::new(), Target { asked: ask, gate });
    let publish = |payload: &str| Ok(Asked::Publish(payload.to_owned()));
    smol::block_on(async {
        sender.feed(Message::to_queue(queue(), "one")).await.unwrap();
        assert_eq!(asked.recv().await, publish("one"));
        assert_eq!(asked.recv().await, Ok(Asked::Flush));
        // The first flush is not done; both of these come with the next one.
        for payload in ["two", "three"] {
            sender.feed(Message::to_queue(queue(), payload)).await.unwrap();
            assert_eq!(asked.recv().await, publish(payload));
        }
        open.send(Ok(())).await.unwrap();
        assert_eq!(asked.recv().await, Ok(Asked::Flush));
        open.send(Err(Error::new(ErrorKind::Unknown, "nobody knows"))).await.unwrap();
        let receipt = sender.flush().await.unwrap();
        assert_eq!((receipt.confirmed, receipt.returned), (1, 2));
        let first = sender.take_returned(posthaste_core::Seq::FIRST).unwrap();
        assert_eq!(first.message.payload(), "two");
        // One that is handed over at the end is flushed all the same.
        sender.feed(Message::to_queue(queue(), "four")).await.unwrap();
        open.send(Ok(())).await.unwrap();
        sender.close().await.unwrap();
        assert_eq!(asked.recv().await, publish("four"));
        assert_eq!(asked.recv().await, Ok(Asked::Flush));
    });
}

#[test]
fn a_sender_that_waits_for_room_goes_on_when_there_is_some() {
    let ((ask, asked), (open, gate)) = (bounded(256), bounded(256));
    let options = SenderOptions::new().window(1, 1 << 20);
    let mut sender = engine().sender(&options, Target { asked: ask, gate });
    smol::block_on(async {
        for number in 0..100 {
            sender.feed(Message::to_queue(queue(), number.to_string())).await.unwrap();
            open.send(Ok(())).await.unwrap();
        }
        let receipt = sender.flush().await.unwrap();
        assert_eq!(receipt.confirmed, 100);
        assert_eq!(asked.len(), 200, "one at a time, each with its flush");
    });
}
