//! Waiting requests take turns at polling the inbox and lose no wake-up, whatever the order of
//! replies, polls and drops.

use posthaste_core::{Bus, Message, Topic};

use crate::in_process::InProcess;
use crate::mock::Mock;
use crate::requests::{ask, bus};
use crate::tasks::{Task, settle};

const NAMES: [&str; 3] = ["a", "b", "c"];

/// What can happen next.
#[derive(Debug, Clone, Copy)]
enum Step {
    OpenInbox,
    Answer(usize),
    Poll(usize),
    Drop(usize),
}

struct World {
    mock: Mock,
    bus: Bus,
    tasks: Vec<Task<Result<String, posthaste_core::ErrorKind>>>,
    opened: bool,
    answered: [bool; 3],
    dropped: [bool; 3],
}

impl World {
    fn new(requests: usize) -> Self {
        let (mock, bus) = bus();
        mock.hold_opening(true);
        Self {
            tasks: NAMES[..requests].iter().map(|name| ask(&bus, name)).collect(),
            mock,
            bus,
            opened: false,
            answered: [false; 3],
            dropped: [false; 3],
        }
    }

    fn after(requests: usize, steps: &[Step]) -> Self {
        let mut world = Self::new(requests);
        for step in steps {
            world.take(*step);
        }
        world
    }

    fn possible(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        if !self.opened {
            steps.push(Step::OpenInbox);
        }
        for (index, task) in self.tasks.iter().enumerate() {
            if task.is_woken() {
                steps.push(Step::Poll(index));
            }
            if task.is_alive() {
                steps.push(Step::Drop(index));
            }
            if !self.answered[index] && self.mock.request(NAMES[index]).is_some() {
                steps.push(Step::Answer(index));
            }
        }
        steps
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::OpenInbox => {
                self.opened = true;
                self.mock.hold_opening(false);
            }
            Step::Answer(index) => {
                self.answered[index] = true;
                self.mock.answer(NAMES[index]);
            }
            Step::Poll(index) => {
                self.tasks[index].poll();
            }
            Step::Drop(index) => {
                self.dropped[index] = true;
                self.tasks[index].drop_future();
            }
        }
    }

    /// Opens, answers everybody left, polls whoever is woken: nobody may be left waiting.
    fn finish(mut self, steps: &[Step]) {
        settle(&mut self.tasks);
        for (index, task) in self.tasks.iter().enumerate() {
            let done = self.dropped[index] || task.output.is_some();
            assert_eq!(
                done,
                self.dropped[index] || self.answered[index],
                "{} after {steps:?}",
                NAMES[index]
            );
        }
        self.mock.hold_opening(false);
        settle(&mut self.tasks);
        for (index, name) in NAMES[..self.tasks.len()].iter().enumerate() {
            if !self.answered[index] && self.mock.request(name).is_some() {
                self.mock.answer(name);
            }
        }
        settle(&mut self.tasks);
        for (index, task) in self.tasks.iter().enumerate() {
            let expected = Some(Ok(NAMES[index].to_owned()));
            assert!(
                self.dropped[index] || task.output == expected,
                "{} waits for ever after {steps:?}",
                NAMES[index]
            );
        }
        assert!(format!("{:?}", self.bus).contains("waiting_requests: 0"), "{steps:?}");
        let unwanted = self.tasks.iter().enumerate().filter(|(index, task)| {
            task.output.is_none() && self.mock.request(NAMES[*index]).is_some()
        });
        assert_eq!(self.bus.late_replies(), unwanted.count() as u64, "{steps:?}");
    }
}

fn explore(requests: usize, depth: usize, steps: &mut Vec<Step>) -> usize {
    World::after(requests, steps).finish(steps);
    if steps.len() == depth {
        return 1;
    }
    let mut count = 1;
    for step in World::after(requests, steps).possible() {
        steps.push(step);
        count += explore(requests, depth, steps);
        steps.pop();
    }
    count
}

#[test]
fn two_requests_are_answered_after_every_course_of_events() {
    // Deeper than any course of two requests gets without being polled for nothing.
    assert!(explore(2, 9, &mut Vec::new()) > 1_000);
}

#[test]
fn three_requests_are_answered_after_every_course_of_seven_events() {
    assert!(explore(3, 7, &mut Vec::new()) > 10_000);
}

#[test]
fn a_request_dropped_with_the_turn_passes_it_on() {
    let (mock, bus) = bus();
    let mut tasks: Vec<_> = NAMES.iter().map(|name| ask(&bus, name)).collect();
    settle(&mut tasks);
    mock.answer("a");
    for _ in 0..2 {
        let leader = tasks.iter().position(Task::is_woken).expect("one was woken");
        if leader == 0 {
            tasks[0].poll();
            assert!(tasks[0].output.is_some());
            return;
        }
        tasks[leader].drop_future();
    }
    settle(&mut tasks);
    assert!(tasks[0].output.is_some());
}

#[test]
fn a_request_that_is_not_polled_holds_up_the_others_no_longer_than_the_next_poll() {
    let (mock, bus) = bus();
    let mut tasks: Vec<_> = NAMES.iter().map(|name| ask(&bus, name)).collect();
    settle(&mut tasks);
    NAMES.iter().for_each(|name| mock.answer(name));
    let lazy = tasks.iter().position(Task::is_woken).expect("one was woken");
    // Somebody else asks, and so takes the turn.
    ask(&bus, "d").poll();
    for (index, task) in tasks.iter_mut().enumerate() {
        assert!(index == lazy || task.run().is_some());
    }
}

#[test]
fn the_turn_goes_round_so_that_one_that_is_not_polled_misses_it_once() {
    let (mock, bus) = bus();
    let mut tasks: Vec<_> = NAMES.iter().map(|name| ask(&bus, name)).collect();
    settle(&mut tasks);
    let stray = || Message::new(Topic::new("t").expect("a topic"), "x");
    mock.inbox().deliver(stray());
    let lazy = tasks.iter().position(Task::is_woken).expect("one was woken");
    // Somebody else happens to be polled, and so takes the turn; then there is another.
    tasks[(lazy + 1) % 3].poll();
    mock.inbox().deliver(stray());
    let others = tasks.iter().enumerate().filter(|(index, _)| *index != lazy);
    assert_eq!(others.filter(|(_, task)| task.is_woken()).count(), 1);
}

#[test]
fn one_poll_takes_a_bounded_part_of_a_flood_and_leaves_the_rest_to_the_next() {
    let (mock, bus) = bus();
    let mut tasks: Vec<_> = NAMES.iter().map(|name| ask(&bus, name)).collect();
    settle(&mut tasks);
    let stray = Message::new(Topic::new("t").expect("a topic"), "x");
    (0..5_000).for_each(|_| mock.inbox().deliver(stray.clone()));
    NAMES.iter().for_each(|name| mock.answer(name));
    let polls = mock.inbox().polls();
    tasks.iter_mut().find(|task| task.is_woken()).expect("one was woken").poll();
    assert_eq!(mock.inbox().polls() - polls, 8);
    settle(&mut tasks);
    assert!(tasks.iter().all(|task| task.output.is_some()));
    assert_eq!(bus.late_replies(), 5_000);
}

#[test]
fn a_request_is_woken_for_its_own_reply_and_for_its_turns_alone() {
    let (mock, bus) = bus();
    let mut tasks: Vec<_> = NAMES.iter().map(|name| ask(&bus, name)).collect();
    settle(&mut tasks);
    let before: usize = tasks.iter().map(Task::wakes).sum();
    mock.answer("b");
    settle(&mut tasks);
    let after: usize = tasks.iter().map(Task::wakes).sum();
    assert!(after - before <= 2, "{} wake-ups for one reply", after - before);
}

#[test]
fn requests_from_many_threads_are_all_answered() {
    let bus = InProcess::new();
    let responder = pollster::block_on(bus.serve("echo.*").open()).unwrap();
    let (stop, stopped) = futures::channel::oneshot::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let serving =
                responder.run(async |request: Message| Ok::<_, String>(request.into_payload()));
            let serving = std::pin::pin!(serving);
            pollster::block_on(futures::future::select(serving, stopped));
        });
        let askers: Vec<_> = (0..4)
            .map(|thread| {
                let bus = &bus;
                scope.spawn(move || {
                    pollster::block_on(async {
                        for round in 0..100 {
                            let asked = (0..5).map(|nth| {
                                let text = format!("{thread} {round} {nth}");
                                let asking = bus.request("echo.me", text.clone()).into_future();
                                async move { (text, asking.await.unwrap()) }
                            });
                            for (text, reply) in futures::future::join_all(asked).await {
                                assert_eq!(reply.payload(), text.as_bytes());
                            }
                            // Some are given up half-way.
                            let given_up = bus.request("echo.me", "x").into_future();
                            drop(futures::poll!(given_up));
                        }
                    });
                })
            })
            .collect();
        for asker in askers {
            asker.join().unwrap();
        }
        stop.send(()).unwrap();
    });
    assert!(bus.late_replies() <= 400);
    assert!(pollster::block_on(bus.ledger()).unwrap().is_balanced());
}

#[test]
fn a_request_that_takes_its_own_reply_is_not_woken_for_it() {
    let (mock, bus) = bus();
    let mut tasks: Vec<_> = NAMES.iter().map(|name| ask(&bus, name)).collect();
    settle(&mut tasks);
    NAMES.iter().for_each(|name| mock.answer(name));
    let leader = tasks.iter().position(Task::is_woken).expect("one was woken");
    let wakes: Vec<_> = tasks.iter().map(Task::wakes).collect();
    tasks[leader].poll();
    for (index, task) in tasks.iter().enumerate() {
        assert_eq!(task.wakes(), wakes[index] + usize::from(index != leader));
    }
    settle(&mut tasks);
    assert!(tasks.iter().all(|task| task.output.is_some()));
}
