//! Cases of law Q5, streamed replies.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use posthaste_core::{Bus, ErrorKind, Replies, ReplyWriter, Responder};

use crate::Context;
use crate::cancel::at_every_poll;
use crate::failure::{Failure, Outcome, check, check_eq};
use crate::poll::{LocalFuture, Probe, both, for_ever};

/// More than may be on their way at a time.
const MANY: u64 = 500;

/// One who has asked for a stream, and one who is going to write it.
struct Stream {
    replies: Replies,
    writer: ReplyWriter,
    _responder: Responder,
}

async fn stream(cx: &Context, bus: &Bus) -> Result<Stream, Failure> {
    let topic = cx.topic("numbers")?;
    let mut responder = cx.peer_bus().serve(&topic).open().await?;
    let mut replies = bus.request_stream(&topic, "please").open();
    let request = {
        let (mut asking, mut serving) = (pin!(replies.next()), pin!(responder.recv()));
        poll_fn(|cx| {
            if asking.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(Failure::new("an unanswered request ended")));
            }
            serving.as_mut().poll(cx).map_err(Failure::from)
        })
        .await?
    };
    let request = request.ok_or_else(|| Failure::new("the responder has ended"))?;
    Ok(Stream { replies, writer: request.stream()?, _responder: responder })
}

async fn write(mut writer: ReplyWriter, count: u64) -> Outcome {
    for number in 0..count {
        writer.send(number.to_string()).await?;
    }
    Ok(writer.finish().await?)
}

/// Reads the stream to its end, which comes after `count` numbers.
async fn read(replies: &mut Replies, count: u64) -> Outcome {
    for number in 0..count {
        let reply = replies.next().await.transpose()?;
        let reply = reply.ok_or_else(|| Failure::new(format!("the end after {number}")))?;
        check_eq!(*reply.payload(), number.to_string(), "the next reply");
    }
    check!(replies.next().await.is_none(), "more than was sent");
    check!(replies.next().await.is_none(), "an end that is not sticky");
    Ok(())
}

fn check_no_slot_is_left(bus: &Bus) -> Outcome {
    let state = format!("{bus:?}");
    check!(state.contains("waiting_requests: 0"), "slots that are not free: {state}");
    Ok(())
}

pub(crate) async fn q5_a_stream_comes_whole_and_in_order(cx: Context) -> Outcome {
    let bus = cx.bus();
    let Stream { mut replies, writer, _responder } = stream(&cx, &bus).await?;
    both(write(writer, MANY), read(&mut replies, MANY)).await?;
    check_no_slot_is_left(&bus)
}

pub(crate) async fn q5_a_stream_comes_no_faster_than_it_is_read(cx: Context) -> Outcome {
    let bus = cx.bus();
    let Stream { mut replies, mut writer, _responder } = stream(&cx, &bus).await?;
    let mut sent = 0_u64;
    let probe = Probe::new();
    // The inbox of the one who writes may have to be opened first.
    writer.send("0").await?;
    loop {
        sent += 1;
        check!(sent < MANY, "{sent} replies on their way to one who reads none");
        let mut sending = pin!(writer.send(sent.to_string()));
        if probe.poll(&mut sending).is_pending() {
            break;
        }
    }
    let rest = async {
        for number in sent..MANY {
            writer.send(number.to_string()).await?;
        }
        Ok(writer.finish().await?)
    };
    both(rest, read(&mut replies, MANY)).await.map(drop)
}

pub(crate) async fn q5_a_stream_that_is_dropped_tells_who_asked(cx: Context) -> Outcome {
    let bus = cx.bus();
    let Stream { mut replies, mut writer, _responder } = stream(&cx, &bus).await?;
    writer.send("0").await?;
    drop(writer);
    let told = loop {
        match replies.next().await {
            Some(Ok(_)) => {}
            Some(Err(error)) => break error.kind(),
            None => return Err(Failure::new("a stream that was dropped ended well")),
        }
    };
    check_eq!(told, ErrorKind::NoResponders, "what one who asked is told");
    check_no_slot_is_left(&bus)
}

pub(crate) async fn q5_who_drops_a_stream_stops_who_writes_it(cx: Context) -> Outcome {
    let bus = cx.bus();
    let Stream { replies, mut writer, _responder } = stream(&cx, &bus).await?;
    writer.send("0").await?;
    drop(replies);
    let stopped = loop {
        if let Err(error) = writer.send("more").await {
            break error.kind();
        }
    };
    check_eq!(stopped, ErrorKind::Closed, "what one who writes is told");
    check_no_slot_is_left(&bus)
}

pub(crate) async fn q5_reading_may_be_given_up_at_every_poll(cx: Context) -> Outcome {
    const COUNT: u64 = 3;
    let bus = cx.bus();
    at_every_poll(
        async || {
            let Stream { replies, writer, _responder } = stream(&cx, &bus).await?;
            Ok(((replies, _responder), for_ever(write(writer, COUNT))))
        },
        async |(replies, _): &mut (Replies, Responder)| replies.next().await,
        async |writing: &mut LocalFuture<'_, Outcome>| writing.await,
        async |(mut replies, _responder), writing, read_one| {
            drop(writing);
            let mut read = read_one.map_or(0, |_| 1);
            while let Some(Ok(reply)) = replies.next().await {
                check_eq!(*reply.payload(), u64::to_string(&read), "the next reply");
                read += 1;
            }
            check!(read <= COUNT, "{read} replies of {COUNT}");
            Ok(())
        },
    )
    .await?;
    check_no_slot_is_left(&bus)
}

pub(crate) async fn q5_writing_may_be_given_up_at_every_poll(cx: Context) -> Outcome {
    let bus = cx.bus();
    at_every_poll(
        async || {
            let Stream { replies, mut writer, _responder } = stream(&cx, &bus).await?;
            writer.send("0").await?;
            Ok(((writer, _responder), replies))
        },
        async |(writer, _): &mut (ReplyWriter, Responder)| writer.send("1").await,
        async |_| std::future::pending().await,
        async |(mut writer, _responder), mut replies: Replies, sent| {
            let next = if sent.transpose()?.is_some() { 2 } else { 1 };
            let finishing = async {
                writer.send(next.to_string()).await?;
                Ok(writer.finish().await?)
            };
            both(finishing, read(&mut replies, next + 1)).await.map(drop)
        },
    )
    .await?;
    check_no_slot_is_left(&bus)
}
