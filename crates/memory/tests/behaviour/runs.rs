//! Runs, as links bring them: what a broker takes of one in a single step is what it would have
//! been message by message.

use posthaste_core::{
    Ack, Broker, Delivery, Message, Overflow, Parts, Queue, Receiver, ReceiverExt, Sender,
    SenderExt, Subscription,
};
use posthaste_memory::MemoryReceiver;
use proptest::prelude::*;

use super::common::Memory;
use super::{event, is_pending, job, ledger, payload, receiver, sender, topic};

/// Messages with these payloads that are like `like`, as they come over a link.
fn run(like: &Message, payloads: &[String]) -> Message {
    let mut bytes = Vec::new();
    for payload in payloads {
        bytes.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
        bytes.extend_from_slice(payload.as_bytes());
    }
    let parts = like.clone().into_parts();
    let count = u32::try_from(payloads.len()).unwrap();
    Message::from_parts(Parts { payload: bytes.into(), count, ..parts }).unwrap()
}

fn numbers(from: usize, count: usize) -> Vec<String> {
    (from..from + count).map(|number| number.to_string()).collect()
}

/// All that there is to see of the queue `q`.
fn seen(memory: &Memory) -> Vec<(u64, u32, bool, String)> {
    let browsed = pollster::block_on(memory.browse(&topic("q"), None, 1_000)).unwrap();
    let shown = browsed.into_iter().map(|it| {
        let text = String::from_utf8(it.message.payload().to_vec()).unwrap();
        (it.position, it.attempts, it.unsettled, text)
    });
    shown.collect()
}

fn take(consumer: &mut MemoryReceiver, limit: usize) -> Vec<Delivery> {
    let mut got = Vec::new();
    if !is_pending(consumer.recv_many(&mut got, limit)) {
        assert!(!got.is_empty(), "not the end");
    }
    got
}

#[derive(Debug, Clone, Copy)]
enum Step {
    /// So many messages of a priority come at once.
    Run(usize, u8),
    /// One comes alone.
    Alone,
    /// The consumer takes up to so many, and settles every other one.
    Take(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (2..70_usize, prop_oneof![4 => Just(0), 1 => Just(2)])
            .prop_map(|(count, priority)| Step::Run(count, priority)),
        2 => Just(Step::Alone),
        3 => (1..50_usize).prop_map(Step::Take),
    ]
}

fn queue() -> impl Strategy<Value = Queue> {
    let policy = prop::sample::select(vec![Overflow::Block, Overflow::Reject]);
    (20..200_usize, policy, prop::bool::weighted(0.2)).prop_map(|(capacity, policy, keyed)| {
        let queue = Queue::new(topic("q")).capacity(capacity).overflow(policy);
        if keyed { queue.keyed() } else { queue }
    })
}

proptest! {
    #[test]
    fn a_run_that_is_taken_is_as_its_messages_one_by_one(
        queue in queue(),
        manual in any::<bool>(),
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let subscription = Subscription::queue("q").unwrap();
        let subscription = subscription.ack(if manual { Ack::Manual } else { Ack::Auto });
        let [whole, each] = [(); 2].map(|()| {
            let memory = Memory::new();
            pollster::block_on(memory.declare(queue.clone())).unwrap();
            memory
        });
        let mut senders = [sender(&whole), sender(&each)];
        let mut consumers = [receiver(&whole, &subscription), receiver(&each, &subscription)];
        let (mut sent, mut kept) = (0, [Vec::new(), Vec::new()]);
        for step in steps {
            match step {
                Step::Run(count, priority) => {
                    let like = Message::builder(topic("q")).to_queue().priority(priority);
                    let like = like.build().unwrap();
                    let run = run(&like, &numbers(sent, count));
                    let mut slot = Some(run.clone());
                    let taken = senders[0].try_send_run(&mut slot);
                    prop_assert_eq!(taken.is_none(), slot.is_some());
                    if taken.is_some() {
                        sent += count;
                        for message in run.each() {
                            senders[1].try_send(message).unwrap();
                        }
                    }
                }
                Step::Alone => {
                    let message = |_| Message::to_queue(topic("q"), sent.to_string());
                    let taken = [0, 1].map(|at| senders[at].try_send(message(at)).is_ok());
                    prop_assert_eq!(taken[0], taken[1]);
                    sent += usize::from(taken[0]);
                }
                Step::Take(limit) => {
                    for (consumer, kept) in consumers.iter_mut().zip(&mut kept) {
                        let got = take(consumer, limit);
                        for (at, delivery) in got.into_iter().enumerate() {
                            prop_assert_eq!(delivery.message().count(), 1);
                            if at % 2 == 0 { delivery.ack() } else { kept.push(delivery) }
                        }
                    }
                    let [these, those] = &kept;
                    let texts = |kept: &[Delivery]| {
                        kept.iter().map(|it| it.payload().clone()).collect::<Vec<_>>()
                    };
                    prop_assert_eq!(texts(these), texts(those));
                }
            }
            prop_assert_eq!(seen(&whole), seen(&each));
            prop_assert_eq!(ledger(&whole), ledger(&each));
        }
        // And so is what goes back.
        drop(kept);
        prop_assert_eq!(seen(&whole), seen(&each));
        prop_assert_eq!(ledger(&whole), ledger(&each));
    }
}

#[test]
fn a_queue_takes_a_run_for_which_there_is_room() {
    let memory = Memory::new();
    pollster::block_on(memory.declare(Queue::new(topic("q")).capacity(10))).unwrap();
    let mut sending = sender(&memory);
    for (count, taken) in [(6, true), (5, false), (4, true), (2, false)] {
        let seq = sending.try_send_run(&mut Some(run(&job("q", ""), &numbers(0, count))));
        assert_eq!(seq.is_some(), taken, "{count}");
    }
    assert_eq!(pollster::block_on(sending.flush()).unwrap().matched, 10);
    assert_eq!((ledger(&memory).accepted, ledger(&memory).held), (10, 10));
}

#[test]
fn a_run_wakes_all_who_wait_for_its_messages() {
    let memory = Memory::new();
    let group = Subscription::shared("a", "g").unwrap().ack(Ack::Manual);
    let mut members = [(); 3].map(|()| receiver(&memory, &group));
    let woken = [(); 3].map(|()| super::waiting::Woken::new());
    for (member, woken) in members.iter_mut().zip(&woken) {
        let waker = woken.waker();
        let polled = member.poll_recv(&mut std::task::Context::from_waker(&waker));
        assert!(polled.is_pending());
    }
    let taken = sender(&memory).try_send_run(&mut Some(run(&event("a", ""), &numbers(0, 3))));
    assert!(taken.is_some());
    // Each takes one, and passes on that there are more.
    for (at, (member, woken)) in members.iter_mut().zip(&woken).enumerate() {
        assert!(woken.take(), "member {at}");
        assert_eq!(super::now(member, payload), at.to_string());
    }
}

#[test]
fn what_was_missed_before_a_run_is_told_with_its_first_message() {
    let memory = Memory::new();
    let narrow = Subscription::topic("a").unwrap().capacity(2, 1 << 20);
    let mut narrow = receiver(&memory, &narrow.overflow(Overflow::DropNewest));
    let mut sending = sender(&memory);
    for text in ["1", "2", "3"] {
        sending.try_send(event("a", text)).unwrap();
    }
    assert_eq!(take(&mut narrow, 9).len(), 2, "the third had no room");
    assert!(sending.try_send_run(&mut Some(run(&event("a", ""), &numbers(4, 2)))).is_some());
    let missed: Vec<_> = take(&mut narrow, 9).iter().map(Delivery::missed).collect();
    assert_eq!(missed, [1, 0]);
}
