//! Streamed replies: whole, in order, and no faster than they are read.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use posthaste_core::{Bus, ErrorKind, Message, Replies, ReplyWriter, Responder};

use crate::in_process::InProcess;
use crate::requests::bus as scripted;
use crate::tasks::Task;

const WINDOW: usize = 64;

/// A stream that was asked for, and the writer of its replies.
async fn begun(bus: &Bus) -> (Responder, ReplyWriter, Replies) {
    let mut responder = bus.serve("count").open().await.unwrap();
    let mut replies = bus.request_stream("count", "").open();
    let request = {
        let mut serving = std::pin::pin!(responder.recv());
        let mut asking = std::pin::pin!(replies.next());
        std::future::poll_fn(|cx| {
            assert!(asking.as_mut().poll(cx).is_pending());
            serving.as_mut().poll(cx)
        })
        .await
    };
    (responder, request.unwrap().unwrap().stream().unwrap(), replies)
}

async fn number(replies: &mut Replies) -> Option<Result<usize, ErrorKind>> {
    let reply = replies.next().await?;
    Some(match reply {
        Ok(reply) => Ok(std::str::from_utf8(reply.payload()).unwrap().parse().unwrap()),
        Err(error) => Err(error.kind()),
    })
}

#[test]
fn a_stream_comes_whole_and_in_order_however_long_it_is() {
    let bus = InProcess::new();
    pollster::block_on(async {
        let (_responder, mut writer, mut replies) = begun(&bus).await;
        let writing = async {
            for number in 0..1_000 {
                writer.send(number.to_string()).await.unwrap();
            }
            writer.finish().await.unwrap();
        };
        let reading = async {
            for expected in 0..1_000 {
                assert_eq!(number(&mut replies).await, Some(Ok(expected)));
            }
            assert_eq!(number(&mut replies).await, None);
            assert_eq!(number(&mut replies).await, None);
        };
        futures::join!(writing, reading);
        assert!(format!("{:?}", *bus).contains("waiting_requests: 0"));
        assert_eq!(bus.ledger().await.unwrap().held, 0);
    });
}

#[test]
fn a_writer_waits_while_nobody_reads() {
    let bus = InProcess::new();
    let (_responder, mut writer, mut replies) = pollster::block_on(begun(&bus));
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sent);
    let mut writing = Task::new(async move {
        while writer.send(counter.load(Relaxed).to_string()).await.is_ok() {
            counter.fetch_add(1, Relaxed);
        }
    });
    assert!(writing.run().is_none());
    assert_eq!(sent.load(Relaxed), WINDOW);
    for _ in 0..WINDOW {
        pollster::block_on(number(&mut replies)).unwrap().unwrap();
    }
    assert!(writing.run().is_none());
    assert!(
        sent.load(Relaxed) > WINDOW && sent.load(Relaxed) <= 2 * WINDOW,
        "{}",
        sent.load(Relaxed)
    );
    drop(replies);
    assert!(writing.run().is_some(), "who asked has gone");
}

#[test]
fn large_replies_use_up_the_credit_in_bytes() {
    let bus = InProcess::new();
    let (_responder, mut writer, mut replies) = pollster::block_on(begun(&bus));
    let large = vec![b'7'; 700 << 10];
    pollster::block_on(async {
        writer.send(large.clone()).await.unwrap();
        writer.send(large.clone()).await.unwrap();
    });
    assert!(futures::FutureExt::now_or_never(writer.send("8")).is_none());
    let mut next = || pollster::block_on(replies.next()).unwrap().unwrap();
    assert_eq!((next().payload().len(), next().payload().len()), (large.len(), large.len()));
    pollster::block_on(writer.send("8")).unwrap();
    assert_eq!(next().payload(), "8");
}

#[test]
fn a_stream_that_is_dropped_or_fails_tells_who_asked() {
    let bus = InProcess::new();
    pollster::block_on(async {
        let (_responder, mut writer, mut replies) = begun(&bus).await;
        writer.send("1").await.unwrap();
        drop(writer);
        assert_eq!(number(&mut replies).await, Some(Ok(1)));
        assert_eq!(number(&mut replies).await, Some(Err(ErrorKind::NoResponders)));
        assert_eq!(number(&mut replies).await, None);
        drop(_responder);
        let (_responder, mut writer, mut replies) = begun(&bus).await;
        writer.send("1").await.unwrap();
        writer.fail("no more").await.unwrap();
        assert_eq!(number(&mut replies).await, Some(Ok(1)));
        assert_eq!(number(&mut replies).await, Some(Err(ErrorKind::Failed)));
        assert_eq!(number(&mut replies).await, None);
    });
}

#[test]
fn a_plain_reply_is_a_stream_of_one_and_a_plain_request_takes_no_stream() {
    let bus = InProcess::new();
    pollster::block_on(async {
        let mut responder = bus.serve("count").open().await.unwrap();
        let serving = async {
            let request = responder.recv().await.unwrap().unwrap();
            assert!(request.takes_stream());
            request.reply("7").await.unwrap();
            let request = responder.recv().await.unwrap().unwrap();
            assert_eq!(request.stream().unwrap_err().kind(), ErrorKind::InvalidArgument);
        };
        let asking = async {
            let mut replies = bus.request_stream("count", "").open();
            assert_eq!(number(&mut replies).await, Some(Ok(7)));
            assert_eq!(number(&mut replies).await, None);
            let refused = bus.request("count", "").await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::NoResponders);
        };
        futures::join!(serving, asking);
    });
}

#[test]
fn replies_that_are_missing_show() {
    let bus = InProcess::new();
    pollster::block_on(async {
        let mut responder = bus.serve("count").alone().open().await.unwrap();
        let mut other = bus.serve("count").alone().open().await.unwrap();
        let answering = async |responder: &mut Responder| {
            let request = responder.recv().await.unwrap().unwrap();
            let mut writer = request.stream().unwrap();
            writer.send("0").await.unwrap();
            writer.send("1").await.unwrap();
            writer
        };
        let asking = async {
            let mut replies = bus.request_stream("count", "").open();
            let mut last = Ok(0);
            while let Some(next) = number(&mut replies).await {
                last = next;
            }
            assert_eq!(last, Err(ErrorKind::Unknown));
        };
        let _kept = futures::join!(answering(&mut responder), answering(&mut other), asking);
    });
}

#[test]
fn nobody_there_and_a_time_that_passes_end_a_stream() {
    let bus = InProcess::new();
    let mut replies = bus.request_stream("count", "").open();
    let heard = pollster::block_on(number(&mut replies));
    assert_eq!(heard, Some(Err(ErrorKind::NoResponders)));
    let (mock, bus) = scripted();
    let mut replies = bus.request_stream("count", "").open();
    let mut task = Task::new(async move {
        let heard = number(&mut replies).await;
        (heard, number(&mut replies).await)
    });
    assert!(task.run().is_none());
    mock.inbox().interrupt(ErrorKind::SessionLost);
    assert_eq!(task.run(), Some((Some(Err(ErrorKind::SessionLost)), None)));
}

#[test]
fn credit_that_is_due_while_other_credit_is_on_its_way_follows_it_at_once() {
    let (mock, bus) = scripted();
    let mut replies = bus.request_stream("count", "please").open();
    let mut reading = Task::new(async move { while number(&mut replies).await.is_some() {} });
    assert!(reading.run().is_none());
    let request = mock.request("please").unwrap();
    let part = |number: usize| {
        let draft = Message::builder(request.reply_to().unwrap()).payload(number.to_string());
        let draft = draft.header("_ph.stream", number.to_string());
        let draft = draft.header("_ph.credit-to", "credit").header("_ph.credit", "1");
        draft.answers(request.correlation()).build().unwrap()
    };
    mock.hold_confirming(true);
    (0..WINDOW).for_each(|number| mock.inbox().deliver(part(number)));
    assert!(reading.run().is_none());
    let credits = || mock.sent().iter().filter(|sent| sent.topic().as_str() == "credit").count();
    assert_eq!(credits(), 1, "the first credit is not confirmed yet");
    mock.hold_confirming(false);
    assert!(reading.run().is_none());
    assert_eq!(credits(), 2, "nothing else may ever wake who reads");
}
