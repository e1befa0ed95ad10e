//! What a sent message is worth at each moment: unsent, taken, confirmed or returned.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use futures::Sink;
use posthaste_core::{
    BoxSender, Error, ErrorKind, Level, Message, Receipt, Returned, Sender, SenderExt, Seq, Topic,
};

use crate::poll_once;

/// Plays a script: each poll takes the next answer, and an empty script is pending.
#[derive(Default)]
struct Scripted {
    sends: VecDeque<Result<(), ErrorKind>>,
    flushes: VecDeque<Result<u64, ErrorKind>>,
    returned: VecDeque<Returned>,
    taken: Vec<Message>,
    flushed_upto: Vec<Seq>,
    armed: bool,
    disarms: usize,
    closed: bool,
}

impl Sender for Scripted {
    fn poll_send(
        &mut self,
        _cx: &mut Context<'_>,
        slot: &mut Option<Message>,
    ) -> Poll<Result<Seq, Error>> {
        let Some(answer) = self.sends.pop_front() else {
            self.armed = true;
            return Poll::Pending;
        };
        self.armed = false;
        if let Err(kind) = answer {
            return Poll::Ready(Err(Error::new(kind, "scripted")));
        }
        self.taken.extend(slot.take());
        Poll::Ready(Ok(Seq::new(self.taken.len() as u64)))
    }

    fn poll_flush(&mut self, _cx: &mut Context<'_>, upto: Seq) -> Poll<Result<Receipt, Error>> {
        self.flushed_upto.push(upto);
        let Some(answer) = self.flushes.pop_front() else {
            self.armed = true;
            return Poll::Pending;
        };
        self.armed = false;
        Poll::Ready(match answer {
            Ok(returned) => {
                let mut receipt = Receipt::empty(upto);
                receipt.confirm(1, 1, Level::Held, 1);
                receipt.returned = returned;
                Ok(receipt)
            }
            Err(kind) => Err(Error::new(kind, "scripted")),
        })
    }

    fn take_returned(&mut self, from: Seq) -> Option<Returned> {
        let at = self.returned.iter().position(|this| this.seq >= from)?;
        self.returned.remove(at)
    }

    fn poll_close(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.closed = true;
        Poll::Ready(Ok(()))
    }

    fn disarm(&mut self) {
        self.disarms += 1;
        self.armed = false;
    }
}

fn message() -> Message {
    Message::new(Topic::new("jobs").unwrap(), "work")
}

fn returned(seq: u64) -> Returned {
    Returned {
        seq: Seq::new(seq),
        message: message(),
        error: Error::new(ErrorKind::Full, "scripted"),
    }
}

#[test]
fn dropping_a_pending_send_or_feed_disarms_and_leaves_the_message_unsent() {
    let mut sender = Scripted::default();
    let mut send = sender.send(message());
    assert!(poll_once(&mut send).is_pending());
    drop(send);
    assert_eq!((sender.disarms, sender.armed), (1, false));
    let mut feed = sender.feed(message());
    assert!(poll_once(&mut feed).is_pending());
    drop(feed);
    assert_eq!((sender.disarms, sender.armed, sender.taken.len()), (2, false, 0));
}

#[test]
fn dropping_a_send_that_was_taken_disarms_the_wait_for_its_outcome() {
    let mut sender = Scripted::default();
    sender.sends.push_back(Ok(()));
    let mut send = sender.send(message());
    assert!(poll_once(&mut send).is_pending());
    drop(send);
    assert_eq!((sender.disarms, sender.armed, sender.taken.len()), (1, false, 1));
    // Its outcome belongs to the next flush.
    sender.flushes.push_back(Ok(0));
    assert_eq!(pollster::block_on(sender.flush()).unwrap().confirmed, 1);
}

#[test]
fn a_future_that_was_never_polled_or_has_resolved_disarms_nothing() {
    let mut sender = Scripted::default();
    drop(sender.send(message()));
    drop(sender.flush());
    sender.sends.push_back(Ok(()));
    sender.flushes.push_back(Ok(0));
    let mut send = sender.send(message());
    assert!(poll_once(&mut send).is_ready());
    drop(send);
    let mut slot = Some(message());
    drop(sender.send_from(&mut slot));
    assert_eq!(sender.disarms, 0);
}

#[test]
fn a_message_sent_from_a_slot_stays_there_until_it_is_taken() {
    let mut sender = Scripted::default();
    let mut slot = Some(message());
    let mut send = sender.send_from(&mut slot);
    assert!(poll_once(&mut send).is_pending());
    drop(send);
    assert_eq!((sender.disarms, slot.is_some()), (1, true));
    sender.sends.push_back(Err(ErrorKind::Closed));
    let refused = pollster::block_on(sender.send_from(&mut slot)).unwrap_err();
    assert_eq!((refused.kind(), slot.is_some()), (ErrorKind::Closed, true));
    sender.sends.push_back(Ok(()));
    assert_eq!(pollster::block_on(sender.send_from(&mut slot)).unwrap(), Seq::FIRST);
    assert!(slot.is_none());
}

#[test]
fn send_waits_for_its_own_message_and_hands_back_what_came_back() {
    let mut sender = Scripted::default();
    sender.sends.extend([Ok(()), Ok(())]);
    sender.flushes.extend([Ok(1), Ok(1)]);
    // Two came back: an older one, which is another's, and this one.
    sender.returned.push_back(returned(1));
    let first = pollster::block_on(sender.send(message())).unwrap_err();
    assert_eq!((first.kind(), first.message()), (ErrorKind::Full, &message()));
    sender.returned.extend([returned(1), returned(2)]);
    assert!(pollster::block_on(sender.send(message())).is_err());
    assert_eq!(sender.flushed_upto, [Seq::new(1), Seq::new(2)]);
    assert_eq!(sender.take_returned(Seq::FIRST).unwrap().seq, Seq::FIRST);
}

#[test]
fn a_refused_send_hands_the_message_back() {
    let mut sender = Scripted::default();
    sender.sends.extend([Err(ErrorKind::TooLarge), Err(ErrorKind::Closed)]);
    let failed = pollster::block_on(sender.send(message())).unwrap_err();
    assert_eq!((failed.kind(), failed.into_message()), (ErrorKind::TooLarge, message()));
    let failed = pollster::block_on(sender.feed(message())).unwrap_err();
    assert_eq!((failed.kind(), failed.into_message()), (ErrorKind::Closed, message()));
}

#[test]
fn try_send_without_room_is_full_and_leaves_no_registration() {
    let mut sender = Scripted::default();
    let full = sender.try_send(message()).unwrap_err();
    assert_eq!((full.kind(), full.message()), (ErrorKind::Full, &message()));
    assert_eq!((sender.disarms, sender.armed), (1, false));
    sender.sends.push_back(Ok(()));
    assert_eq!(sender.try_send(message()).unwrap(), Seq::FIRST);
}

#[test]
fn a_dropped_flush_disarms_and_a_flush_covers_everything() {
    let mut sender = Scripted::default();
    let mut flush = sender.flush();
    assert!(poll_once(&mut flush).is_pending());
    drop(flush);
    assert_eq!((sender.disarms, sender.armed), (1, false));
    assert_eq!(sender.flushed_upto, [Seq::new(u64::MAX)]);
    sender.flushes.push_back(Err(ErrorKind::Closed));
    assert_eq!(pollster::block_on(sender.flush()).unwrap_err().kind(), ErrorKind::Closed);
    pollster::block_on(sender.close()).unwrap();
    assert!(sender.closed);
}

#[test]
fn a_boxed_sender_forwards_every_call() {
    let mut scripted = Scripted::default();
    scripted.sends.push_back(Ok(()));
    scripted.flushes.push_back(Ok(1));
    scripted.returned.push_back(returned(1));
    let mut boxed: BoxSender = Box::new(scripted);
    assert_eq!(boxed.try_send(message()).unwrap(), Seq::FIRST);
    assert_eq!(pollster::block_on(boxed.flush()).unwrap().returned, 1);
    assert!(boxed.take_returned(Seq::FIRST).is_some());
    assert!(boxed.try_send(message()).is_err());
    pollster::block_on(boxed.close()).unwrap();
}

#[test]
fn a_sink_holds_one_message_and_hands_it_out_with_its_sender() {
    let mut sink = Scripted::default().into_sink();
    let cx = &mut Context::from_waker(Waker::noop());
    assert!(Pin::new(&mut sink).poll_ready(cx).is_ready());
    Pin::new(&mut sink).start_send(message()).unwrap();
    assert!(Pin::new(&mut sink).poll_ready(cx).is_pending());
    let twice = Pin::new(&mut sink).start_send(message()).unwrap_err();
    assert_eq!(twice.kind(), ErrorKind::Full);
    let (mut sender, held) = sink.into_parts();
    assert_eq!(held, Some(message()));

    sender.sends.extend([Ok(()), Ok(())]);
    sender.flushes.extend([Ok(1), Ok(0)]);
    sender.returned.push_back(returned(1));
    let mut sink = sender.into_sink();
    Pin::new(&mut sink).start_send(message()).unwrap();
    let Poll::Ready(Err(error)) = Pin::new(&mut sink).poll_flush(cx) else {
        panic!("a returned message is an error of the flush");
    };
    assert_eq!(error.kind(), ErrorKind::Full);
    Pin::new(&mut sink).start_send(message()).unwrap();
    assert!(matches!(Pin::new(&mut sink).poll_close(cx), Poll::Ready(Ok(()))));
    let (sender, held) = sink.into_parts();
    assert_eq!((sender.taken.len(), sender.closed, held), (2, true, None));
}
