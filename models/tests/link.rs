//! Models of the link: handles of a remote in the hands of several threads, next to the one that
//! drives its connection and the server at the other end.
#![cfg(loom)]

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use posthaste_core::{
    BoxReceiver, BoxSender, Broker, Delivery, Error, ErrorKind, Ledger, Message, Queue, Receiver,
    ReceiverExt, Sender, SenderExt, SenderOptions, Subscription, Topic,
};
use posthaste_memory::{Memory, MemoryReceiver, MemorySender};
use posthaste_models::sips::Sips;
use posthaste_models::world::World;
use posthaste_models::{Bell, block_on, explore, join, join_all, spawn};

/// A third of what gathers in a connection's output before senders wait; it fits into a frame, for
/// what does not is only added when the output is taken.
static THIRD: [u8; 180 << 10] = [0; 180 << 10];
/// As much as a server lets a sender send ahead of the broker.
static WINDOW: [u8; 4 << 20] = [0; 4 << 20];

fn jobs() -> Topic {
    Topic::new("jobs").unwrap()
}

fn job(payload: impl Into<Payload>) -> Message {
    Message::to_queue(jobs(), payload.into().0)
}

fn queue() -> Subscription {
    Subscription::queue("jobs").unwrap()
}

/// What the tests send: static, so that an execution copies nothing.
struct Payload(&'static [u8]);

impl From<&'static str> for Payload {
    fn from(text: &'static str) -> Self {
        Self(text.as_bytes())
    }
}

impl From<&'static [u8]> for Payload {
    fn from(bytes: &'static [u8]) -> Self {
        Self(bytes)
    }
}

// ---- handles at the far end of the connection

fn sender(world: &mut World) -> BoxSender {
    sender_with(world, SenderOptions::new())
}

fn sender_with(world: &mut World, options: SenderOptions) -> BoxSender {
    let sender = world.tasks.drive(world.remote.sender(options)).unwrap();
    world.tasks.rest();
    sender
}

fn receiver(world: &mut World, subscription: Subscription) -> BoxReceiver {
    let receiver = world.tasks.drive(world.remote.receiver(subscription)).unwrap();
    world.tasks.rest();
    receiver
}

/// Hands a message to the connection, and does not wait for its outcome.
fn hand_over(sender: &mut BoxSender, message: Message) -> Result<(), Error> {
    let mut slot = Some(message);
    block_on(poll_fn(|cx| sender.poll_send(cx, &mut slot))).map(|_| ())
}

/// Hands a message to the connection, which has room for it.
fn hand_over_now(sender: &mut BoxSender, message: Message) {
    let mut slot = Some(message);
    let polled = sender.poll_send(&mut Context::from_waker(Waker::noop()), &mut slot);
    assert!(polled.is_ready());
}

fn recv(receiver: &mut BoxReceiver) -> Delivery {
    block_on(receiver.recv()).unwrap().expect("it goes on")
}

fn text(delivery: &Delivery) -> String {
    String::from_utf8(delivery.payload().to_vec()).unwrap()
}

// ---- handles of the broker itself

fn here(memory: &Memory) -> (MemorySender, MemoryReceiver) {
    let sender = memory.open_sender(SenderOptions::new()).unwrap();
    (sender, memory.open_receiver(&queue()).unwrap())
}

fn ledger(memory: &Memory) -> Ledger {
    let ledger = block_on(memory.stats()).unwrap().ledger;
    let gone = ledger.acked + ledger.auto + ledger.dead_lettered + ledger.expired + ledger.dropped;
    assert_eq!(ledger.accepted, gone + ledger.held, "{ledger:?}");
    ledger
}

// ---- the output's hand-over

#[test]
fn what_a_sender_encodes_is_written_whether_the_driver_sleeps_or_not() {
    explore(3, || {
        let mut world = World::new();
        let mut sender = sender(&mut world);
        let running = world.tasks.start();
        let sending = spawn(move || block_on(sender.send(job("a"))).unwrap());
        assert_eq!(join(sending).matched, 1);
        running.stop();
    });
}

#[test]
fn what_two_senders_encode_at_once_is_all_written() {
    explore(2, || {
        let mut world = World::new();
        let senders = [sender(&mut world), sender(&mut world)];
        let running = world.tasks.start();
        let threads = senders.map(|mut sender| {
            spawn(move || {
                hand_over(&mut sender, job("a")).unwrap();
                sender
            })
        });
        let _senders = join_all(threads);
        running.stop().rest();
        assert_eq!(ledger(&world.memory).held, 2);
    });
}

#[test]
fn what_was_handed_over_before_the_last_handle_went_is_written() {
    explore(2, || {
        let mut world = World::new();
        let mut sender = sender(&mut world);
        let running = world.tasks.start();
        let sending = spawn(move || hand_over(&mut sender, job("a")).unwrap());
        drop(world.remote);
        join(sending);
        running.stop().rest();
        assert_eq!(ledger(&world.memory).held, 1);
        assert_eq!(world.server.connections(), 0);
    });
}

#[test]
fn senders_that_wait_for_the_output_are_woken_when_it_is_taken() {
    explore(2, || {
        let mut world = World::new();
        let mut first = sender(&mut world);
        let (mut waits, mut comes) = (sender(&mut world), sender(&mut world));
        // Nobody drives the connection yet, so this is all it takes.
        for _ in 0..3 {
            hand_over_now(&mut first, job(&THIRD[..]));
        }
        let bell = Arc::new(Bell::default());
        let waker = Waker::from(Arc::clone(&bell));
        let mut slot = Some(job("b"));
        assert!(waits.poll_send(&mut Context::from_waker(&waker), &mut slot).is_pending());
        let running = world.tasks.start();
        hand_over(&mut comes, job("c")).unwrap();
        running.stop().rest();
        assert!(bell.take());
        assert_eq!(ledger(&world.memory).held, 4);
    });
}

// ---- room and credit

#[test]
fn a_sender_with_a_full_window_goes_on_when_an_outcome_comes() {
    explore(3, || {
        let mut world = World::new();
        let mut sender = sender_with(&mut world, SenderOptions::new().window(1, 1));
        let running = world.tasks.start();
        let sending = spawn(move || {
            hand_over(&mut sender, job("a")).unwrap();
            hand_over(&mut sender, job("b")).unwrap();
        });
        join(sending);
        running.stop().rest();
        assert_eq!(ledger(&world.memory).held, 2);
    });
}

/// A world in which a sender has used up its credit: the broker has a message of it in hand, for
/// which its queue has no room until the delivery that is returned is settled.
fn without_credit() -> (World, BoxSender, Delivery) {
    // In sips, so that the outcome comes before the credit: either makes a sender look again.
    let mut world = World::over(Sips);
    let mut sender = sender_with(&mut world, SenderOptions::new().window(8, 64 << 20));
    block_on(world.memory.declare(Queue::new(jobs()).capacity(1))).unwrap();
    hand_over_now(&mut sender, job("a"));
    world.tasks.rest();
    let (_, mut consumer) = here(&world.memory);
    let held = consumer.try_recv().unwrap().unwrap();
    hand_over_now(&mut sender, job(&WINDOW[..]));
    world.tasks.rest();
    (world, sender, held)
}

#[test]
fn a_sender_that_waits_for_credit_goes_on_when_that_comes() {
    explore(2, || {
        let (world, mut sender, held) = without_credit();
        let running = world.tasks.start();
        let sending = spawn(move || hand_over(&mut sender, job("c")).unwrap());
        held.ack();
        join(sending);
        running.stop();
    });
}

#[test]
fn a_sender_that_gives_up_waiting_and_comes_back_is_woken() {
    explore(3, || {
        let mut world = World::new();
        let mut sender = sender_with(&mut world, SenderOptions::new().window(1, 1));
        hand_over_now(&mut sender, job("a"));
        let running = world.tasks.start();
        // The outcome that makes room comes before, between or after these two.
        let mut slot = Some(job("b"));
        let waker = Waker::from(Arc::new(Bell::default()));
        let _ = sender.poll_send(&mut Context::from_waker(&waker), &mut slot);
        sender.disarm();
        if let Some(message) = slot {
            hand_over(&mut sender, message).unwrap();
        }
        running.stop().rest();
        assert_eq!(ledger(&world.memory).held, 2);
    });
}

// ---- the mailbox

#[test]
fn what_arrives_wakes_the_receiver_that_waits() {
    explore(2, || {
        let mut world = World::new();
        let mut receiver = receiver(&mut world, queue());
        let (mut sender, _) = here(&world.memory);
        let running = world.tasks.start();
        let receiving = spawn(move || text(&recv(&mut receiver)));
        block_on(sender.send(job("a"))).unwrap();
        assert_eq!(join(receiving), "a");
        running.stop();
    });
}

#[test]
fn what_arrives_while_the_mailbox_is_taken_keeps_its_order() {
    explore(2, || {
        let mut world = World::new();
        let mut receiver = receiver(&mut world, queue());
        let (mut sender, _) = here(&world.memory);
        block_on(sender.send(job("a"))).unwrap();
        world.tasks.rest();
        block_on(sender.send(job("b"))).unwrap();
        let running = world.tasks.start();
        let taken = [(); 2].map(|()| recv(&mut receiver));
        assert_eq!(taken.each_ref().map(text), ["a", "b"]);
        running.stop();
    });
}

#[test]
fn a_receiver_that_disarms_and_comes_back_is_woken() {
    explore(2, || {
        let mut world = World::new();
        let mut receiver = receiver(&mut world, queue());
        let (mut sender, _) = here(&world.memory);
        block_on(sender.send(job("a"))).unwrap();
        let running = world.tasks.start();
        let waker = Waker::from(Arc::new(Bell::default()));
        let came = receiver.poll_recv(&mut Context::from_waker(&waker));
        receiver.disarm();
        let delivery = match came {
            Poll::Ready(delivery) => delivery.unwrap().unwrap(),
            Poll::Pending => recv(&mut receiver),
        };
        assert_eq!((text(&delivery).as_str(), delivery.attempt()), ("a", 1));
        running.stop();
    });
}

#[test]
fn what_arrives_at_a_receiver_that_is_dropped_comes_to_another() {
    explore(2, || {
        let mut world = World::new();
        let receiver = receiver(&mut world, queue());
        let (mut sender, mut other) = here(&world.memory);
        let running = world.tasks.start();
        let quitting = spawn(move || drop(receiver));
        block_on(sender.send(job("a"))).unwrap();
        let delivery = block_on(other.recv()).unwrap().unwrap();
        assert_eq!(text(&delivery), "a");
        join(quitting);
        running.stop();
    });
}

// ---- settling

#[test]
fn a_settlement_in_another_thread_brings_a_receiver_its_credit() {
    explore(2, || {
        let mut world = World::new();
        let mut receiver = receiver(&mut world, queue().prefetch(1));
        let (mut sender, _) = here(&world.memory);
        block_on(sender.send(job("a"))).unwrap();
        block_on(sender.send(job("b"))).unwrap();
        world.tasks.rest();
        let held = receiver.try_recv().unwrap().unwrap();
        let running = world.tasks.start();
        let settling = spawn(move || held.ack());
        assert_eq!(text(&recv(&mut receiver)), "b");
        join(settling);
        running.stop();
    });
}

#[test]
fn a_receiver_hears_that_all_it_settled_is_settled() {
    explore(2, || {
        let mut world = World::new();
        let mut receiver = receiver(&mut world, queue());
        let (mut sender, _) = here(&world.memory);
        block_on(sender.send(job("a"))).unwrap();
        world.tasks.rest();
        let held = receiver.try_recv().unwrap().unwrap();
        let running = world.tasks.start();
        let settling = spawn(move || held.ack());
        block_on(receiver.settled()).unwrap();
        join(settling);
        block_on(receiver.settled()).unwrap();
        running.stop();
        assert_eq!(ledger(&world.memory).acked, 1);
    });
}

// ---- calls

#[test]
fn a_call_that_is_given_up_leaves_the_next_one_its_answer() {
    explore(2, || {
        let world = World::new();
        block_on(world.memory.declare(Queue::new(jobs()))).unwrap();
        let running = world.tasks.start();
        let quitting = spawn({
            let remote = world.remote.clone();
            move || {
                let name = jobs();
                let mut call = pin!(remote.queue(&name));
                let waker = Waker::from(Arc::new(Bell::default()));
                let _ = call.as_mut().poll(&mut Context::from_waker(&waker));
            }
        });
        assert_eq!(block_on(world.remote.queue(&jobs())).unwrap().name, jobs());
        join(quitting);
        running.stop();
    });
}

// ---- a connection that is lost and made again

#[test]
fn a_sender_hears_of_its_outcome_over_another_connection() {
    explore(2, || {
        let mut world = World::lasting();
        let mut sender = sender(&mut world);
        let running = world.tasks.start();
        let sending = spawn(move || block_on(sender.send(job("a"))).unwrap());
        world.pipe.cut();
        assert_eq!(join(sending).confirmed, 1);
        running.stop().rest();
        assert_eq!(ledger(&world.memory).held, 1);
    });
}

#[test]
fn a_message_comes_once_over_one_connection_or_the_other() {
    explore(2, || {
        let mut world = World::lasting();
        let mut receiver = receiver(&mut world, queue());
        let (mut sender, _) = here(&world.memory);
        block_on(sender.send(job("a"))).unwrap();
        let running = world.tasks.start();
        let receiving = spawn(move || {
            recv(&mut receiver).ack();
            block_on(receiver.settled()).unwrap();
            receiver.try_recv().unwrap().is_none()
        });
        world.pipe.cut();
        assert!(join(receiving), "it is settled, and does not come again");
        running.stop().rest();
        assert_eq!(ledger(&world.memory).acked, 1);
    });
}

#[test]
fn a_call_has_an_outcome_when_its_connection_is_lost() {
    explore(2, || {
        let world = World::lasting();
        block_on(world.memory.declare(Queue::new(jobs()))).unwrap();
        let running = world.tasks.start();
        let asking = spawn({
            let remote = world.remote.clone();
            move || {
                block_on(remote.queue(&jobs())).map_or_else(|error| Some(error.kind()), |_| None)
            }
        });
        world.pipe.cut();
        let came = join(asking);
        assert!(matches!(came, None | Some(ErrorKind::Disconnected)), "{came:?}");
        running.stop();
    });
}

// ---- the end

#[test]
fn a_sender_hears_of_the_end_while_it_waits_for_an_outcome() {
    explore(2, || {
        let mut world = World::new();
        let mut sender = sender(&mut world);
        let running = world.tasks.start();
        let sending = spawn(move || block_on(sender.send(job("a"))).is_ok());
        world.pipe.cut();
        let confirmed = join(sending);
        running.stop().rest();
        let sends = world.remote.sends().unwrap();
        assert_eq!(sends.pending, 0);
        assert_eq!(sends.confirmed, u64::from(confirmed));
        assert!(ledger(&world.memory).accepted >= sends.confirmed);
    });
}

#[test]
fn a_receiver_hears_of_the_end_while_it_waits_for_a_message() {
    explore(3, || {
        let mut world = World::new();
        let mut receiver = receiver(&mut world, queue());
        let running = world.tasks.start();
        let receiving = spawn(move || matches!(block_on(receiver.recv()), Ok(Some(_))));
        world.pipe.cut();
        assert!(!join(receiving));
        running.stop();
    });
}

#[test]
fn a_drain_hears_of_the_last_settlement() {
    explore(2, || {
        let mut world = World::new();
        let mut receiver = receiver(&mut world, queue());
        let (mut sender, _) = here(&world.memory);
        block_on(sender.send(job("a"))).unwrap();
        world.tasks.rest();
        let held = receiver.try_recv().unwrap().unwrap();
        let running = world.tasks.start();
        let settling = spawn(move || held.ack());
        let report = block_on(world.remote.drain(Duration::MAX)).unwrap();
        join(settling);
        assert_eq!(report.abandoned, 0);
        running.stop().rest();
        assert_eq!(ledger(&world.memory).acked, 1);
    });
}

#[test]
fn a_server_that_shuts_down_waits_for_its_connections_and_no_longer() {
    explore(3, || {
        let mut world = World::new();
        let mut receiver = receiver(&mut world, queue());
        let running = world.tasks.start();
        let receiving = spawn(move || matches!(block_on(receiver.recv()), Ok(Some(_))));
        block_on(world.server.shutdown());
        assert!(!join(receiving));
        running.stop();
        assert_eq!(world.server.connections(), 0);
    });
}
