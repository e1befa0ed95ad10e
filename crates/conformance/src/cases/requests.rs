//! Cases of the laws of requests, Q1 and Q2, on inboxes and on the bus above them.

use std::future::{IntoFuture, poll_fn};
use std::task::Poll;
use std::time::Duration;

use posthaste_core::{
    Broker, Capability, Delivery, ErrorKind, Kind, Message, ReceiverExt, Request, Responder,
    SenderExt, Serve, Status, Subscription, Topic,
};

use crate::Context;
use crate::context::{check_sentence, expect, next, numbered, send_numbers};
use crate::failure::{Failure, Outcome, check, check_eq};
use crate::poll::{LocalFuture, all, both, give_up_after};

/// Longer than any case runs, so that only an answer ends a request.
const LONG: Duration = Duration::from_secs(600);

// ---- Q2

pub(crate) async fn q2_a_request_to_nobody_is_answered_at_once(cx: Context) -> Outcome {
    let (address, mut inbox) = cx.broker().inbox().await?;
    let mut sender = cx.sender().await?;
    let nobody = cx.topic("nobody")?;
    for correlation in [1, 7, u64::MAX] {
        let request = Message::builder(nobody.clone())
            .reply_to(address.clone(), correlation)
            .payload("anyone?")
            .build()?;
        let receipt = sender.send(request).await?;
        cx.check_matched(receipt.matched, 0, "responders that a request to nobody matched")?;
        let reply = next(&mut inbox).await?;
        check_eq!(reply.message().kind(), Kind::Status, "the kind of the answer");
        check_eq!(reply.message().status(), Some(Status::NoResponders), "the status");
        check_eq!(reply.message().correlation(), correlation, "the correlation of the answer");
    }
    Ok(())
}

pub(crate) async fn q2_a_message_to_nobody_is_answered_by_nobody(cx: Context) -> Outcome {
    let (address, mut inbox) = cx.broker().inbox().await?;
    let mut sender = cx.sender().await?;
    sender.send(numbered(&cx.topic("nobody")?, 1)).await?;
    sender.send(numbered(&address, 2)).await?;
    expect(&mut inbox, 2, "the first message in the inbox").await
}

pub(crate) async fn q2_the_bus_says_no_responders(cx: Context) -> Outcome {
    let bus = cx.bus();
    let nobody = cx.topic("nobody")?;
    for _ in 0..5 {
        let kind = bus.request(&nobody, "anyone?").await.err().map(|error| error.kind());
        check_eq!(kind, Some(ErrorKind::NoResponders), "a request to nobody");
    }
    // As soon as somebody is there, the same bus is answered.
    let mut responder = cx.peer_bus().serve(&nobody).open().await?;
    let asking = async { Ok(bus.request(&nobody, "anyone?").await?) };
    let serving = async { Ok(request(&mut responder).await?.reply("me").await?) };
    let (reply, ()) = both(asking, serving).await?;
    check_eq!(reply.payload(), "me", "the reply");
    drop(responder);
    cx.until("the responder is gone", async || {
        let asked = give_up_after(2_000, bus.request(&nobody, "still?").into_future()).await;
        let kind = asked.and_then(Result::err).map(|error| error.kind());
        Ok(kind == Some(ErrorKind::NoResponders))
    })
    .await
}

pub(crate) async fn q2_a_queue_without_consumers_is_nobody(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let bus = cx.bus();
    let asked = bus.request(&queue, "anyone?").to_queue().await;
    let kind = asked.err().map(|error| error.kind());
    check_eq!(kind, Some(ErrorKind::NoResponders), "a request into a queue that nobody consumes");
    check_eq!(cx.info(&queue).await?.messages, 0, "requests that were left in the queue");
    Ok(())
}

pub(crate) async fn q2_a_request_that_waits_is_answered_later(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let bus = cx.bus();
    let asking = async { Ok(bus.request(&queue, "anyone?").to_queue().waits().await?) };
    let serving = async {
        cx.until_queue(&queue, "the request waits", |info| info.messages == 1).await?;
        let serving = cx.peer_bus().serve(&queue).queue(&queue);
        let mut responder = serving.open().await?;
        request(&mut responder).await?.reply("late, but here").await?;
        Ok(())
    };
    let (reply, ()) = both(asking, serving).await?;
    check_eq!(reply.payload(), "late, but here", "the reply");
    Ok(())
}

pub(crate) async fn q2_a_dropped_request_tells_its_requester(cx: Context) -> Outcome {
    let topic = cx.topic("service")?;
    let bus = cx.bus();
    let mut responder = cx.peer_bus().serve(&topic).open().await?;
    let asking = async { Ok(bus.request(&topic, "please").await) };
    let serving = async {
        drop(request(&mut responder).await?);
        Ok(())
    };
    let (asked, ()) = both(asking, serving).await?;
    let kind = asked.err().map(|error| error.kind());
    let told = matches!(kind, Some(ErrorKind::NoResponders | ErrorKind::Failed));
    check!(told, "the requester of a request that was dropped got {kind:?}");
    Ok(())
}

pub(crate) async fn q2_a_lost_responder_tells_every_requester(cx: Context) -> Outcome {
    let topic = cx.topic("service")?;
    let bus = cx.bus();
    let mut responder = cx.peer_bus().serve(&topic).open().await?;
    let asking = all((0..8).map(|_| {
        let asking = bus.request(&topic, "please").into_future();
        let run: LocalFuture<'_, Result<Option<ErrorKind>, Failure>> =
            Box::pin(async { Ok(asking.await.err().map(|error| error.kind())) });
        run
    }));
    let serving = async {
        // One request is in the responder's hands, the others are on their way to it.
        let held = request(&mut responder).await?;
        drop(responder);
        drop(held);
        Ok(())
    };
    let (asked, ()) = both(asking, serving).await?;
    for kind in asked {
        let told = matches!(kind, Some(ErrorKind::NoResponders | ErrorKind::Failed));
        check!(told, "a requester of a lost responder got {kind:?}");
    }
    Ok(())
}

// ---- Q1

pub(crate) async fn q1_every_reply_finds_its_requester(cx: Context) -> Outcome {
    const REQUESTS: u64 = 48;
    let topic = cx.topic("double")?;
    let (bus, other) = (cx.bus(), cx.bus());
    let mut responder = cx.peer_bus().serve(&topic).concurrency(REQUESTS as usize).open().await?;
    let asking = all((0..REQUESTS).map(|number| {
        // Two buses, each with one inbox for all of its requests.
        let bus = if number % 3 == 0 { &other } else { &bus };
        let asking = bus.request(&topic, number.to_string());
        let run: LocalFuture<'_, Outcome> = Box::pin(async move {
            let reply = asking.await?;
            check_eq!(reply.payload(), &(2 * number).to_string(), "the reply to {number}");
            Ok(())
        });
        run
    }));
    let serving = async {
        let mut held: Vec<Request> = Vec::new();
        for nth in 0..REQUESTS {
            held.push(request(&mut responder).await?);
            // Answered in another order than asked, a few at a time.
            if nth % 7 == 6 || nth + 1 == REQUESTS {
                while let Some(request) = held.pop() {
                    let number = number_in(&request)?;
                    request.reply((2 * number).to_string()).await?;
                }
            }
        }
        Ok(())
    };
    both(asking, serving).await?;
    check_eq!((bus.late_replies(), other.late_replies()), (0, 0), "replies that came too late");
    Ok(())
}

pub(crate) async fn q1_a_failed_request_has_its_responders_words(cx: Context) -> Outcome {
    let topic = cx.topic("service")?;
    let bus = cx.bus();
    let mut responder = cx.peer_bus().serve(&topic).open().await?;
    let asking = async { Ok(bus.request(&topic, "please").header("trace", "7").await) };
    let serving = async {
        let request = request(&mut responder).await?;
        check_eq!(request.header("trace"), Some("7"), "the header of the request");
        request.fail("no such order").await?;
        Ok(())
    };
    let (asked, ()) = both(asking, serving).await?;
    let Err(error) = asked else {
        return Err(Failure::new("a failed request got a reply"));
    };
    check_eq!(error.kind(), ErrorKind::Failed, "the kind of the error");
    check!(error.to_string().contains("no such order"), "the responder's words: {error}");
    Ok(())
}

pub(crate) async fn q1_a_dropped_request_frees_its_slot(cx: Context) -> Outcome {
    let topic = cx.topic("service")?;
    let bus = cx.bus();
    let mut responder = cx.peer_bus().serve(&topic).open().await?;
    for round in 0..6_u64 {
        let mut given_up = Box::pin(bus.request(&topic, "given up").into_future());
        // Polled until the responder has it, so that its reply comes late.
        let late = {
            let mut serving = Box::pin(request(&mut responder));
            poll_fn(|cx| {
                if given_up.as_mut().poll(cx).is_ready() {
                    let failure = Failure::new("an unanswered request ended");
                    return Poll::Ready(Err(failure));
                }
                serving.as_mut().poll(cx)
            })
            .await?
        };
        drop(given_up);
        late.reply("too late").await?;
        let asking = async { Ok(bus.request(&topic, "now").await?) };
        let serving = async {
            let request = request(&mut responder).await?;
            check_eq!(request.payload(), "now", "the request after one that was given up");
            Ok(request.reply("in time").await?)
        };
        let (reply, ()) = both(asking, serving).await?;
        check_eq!(reply.payload(), "in time", "the reply to the request that was not given up");
        check_eq!(bus.late_replies(), round + 1, "late replies that were counted");
    }
    Ok(())
}

pub(crate) async fn q1_a_request_ends_at_its_deadline(cx: Context) -> Outcome {
    let topic = cx.topic("service")?;
    let bus = cx.bus();
    let runtime = cx.runtime()?;
    let mut responder = cx.peer_bus().serve(&topic).open().await?;
    let within = Duration::from_millis(25);
    let before = runtime.now();
    let mut late = None;
    let asked = {
        let mut asking = Box::pin(bus.request(&topic, "please").within(within).into_future());
        let mut serving = Box::pin(request(&mut responder));
        poll_fn(|cx| {
            // Handed out or not: on a slow machine the request may be too late to be begun.
            if late.is_none()
                && let Poll::Ready(request) = serving.as_mut().poll(cx)
            {
                late = Some(request);
            }
            asking.as_mut().poll(cx)
        })
        .await
    };
    let Err(error) = asked else {
        return Err(Failure::new("a request that nobody answered got a reply"));
    };
    check_eq!(error.kind(), ErrorKind::DeadlineExceeded, "a request that nobody answers in time");
    check_sentence(&error, "a request that nobody answers in time")?;
    let waited = runtime.now() - before;
    check!(waited >= within, "a request within {within:?} ended after {waited:?}");
    // Its reply is late now, and goes to nobody.
    let replies = u64::from(late.is_some());
    if let Some(late) = late {
        late?.reply("too late").await?;
    }
    let asking = async { Ok(bus.request(&topic, "now").within(LONG).await?) };
    let serving = async {
        // Should the first request come after all, it is given up, and nobody waits for its end.
        loop {
            let request = request(&mut responder).await?;
            if request.payload() == "now" {
                return Ok(request.reply("in time").await?);
            }
        }
    };
    let (reply, ()) = both(asking, serving).await?;
    check_eq!(reply.payload(), "in time", "the reply to the next request");
    check!(bus.late_replies() >= replies, "{} late replies were counted", bus.late_replies());
    Ok(())
}

pub(crate) async fn q1_a_deadline_without_a_clock_is_unsupported(cx: Context) -> Outcome {
    let bus = posthaste_core::Bus::new(cx.broker().clone());
    let asked = bus.request(&cx.topic("service")?, "please").within(LONG).await;
    let kind = asked.err().map(|error| error.kind());
    check_eq!(kind, Some(ErrorKind::Unsupported), "a deadline on a bus without a clock");
    Ok(())
}

pub(crate) async fn q1_responders_of_a_group_share_the_work(cx: Context) -> Outcome {
    let topic = cx.topic("service")?;
    let peer = cx.peer_bus();
    let responders = [peer.serve(&topic), peer.serve(&topic)];
    share_the_work(&cx, &topic, responders).await
}

pub(crate) async fn q1_responders_of_a_queue_share_the_work(cx: Context) -> Outcome {
    let topic = cx.topic("service")?;
    let queue = cx.queue("requests").await?;
    let peer = cx.peer_bus();
    let responders = [peer.serve(&topic).queue(&queue), peer.serve(&topic).queue(&queue)];
    share_the_work(&cx, &topic, responders).await?;
    cx.until_queue(&queue, "no request is left", |info| info.ledger.held == 0).await
}

async fn share_the_work(cx: &Context, topic: &Topic, responders: [Serve; 2]) -> Outcome {
    const REQUESTS: usize = 40;
    let bus = cx.bus();
    let [first, second] = responders.map(|serve| serve.concurrency(2));
    let (mut first, mut second) = (first.open().await?, second.open().await?);
    let asking = async {
        for _ in 0..REQUESTS / 4 {
            all((0..4).map(|_| {
                let asking = bus.request(topic, "please").into_future();
                let run: LocalFuture<'_, Outcome> = Box::pin(async {
                    asking.await?;
                    Ok(())
                });
                run
            }))
            .await?;
        }
        Ok(())
    };
    let mut counts = [0, 0];
    let serving = serve_both(&mut first, &mut second, &mut counts, REQUESTS);
    both(asking, serving).await?;
    check_eq!(counts[0] + counts[1], REQUESTS, "requests that either of the two answered");
    Ok(())
}

async fn serve_both(
    first: &mut Responder,
    second: &mut Responder,
    counts: &mut [usize; 2],
    requests: usize,
) -> Outcome {
    for _ in 0..requests {
        let mut one = Box::pin(first.recv());
        let mut other = Box::pin(second.recv());
        let (nth, got) = poll_fn(|cx| {
            if let Poll::Ready(got) = one.as_mut().poll(cx) {
                return Poll::Ready((0, got));
            }
            other.as_mut().poll(cx).map(|got| (1, got))
        })
        .await;
        drop((one, other));
        let request = got?.ok_or_else(|| Failure::new("a responder has ended"))?;
        request.reply("done").await?;
        counts[nth] += 1;
    }
    Ok(())
}

pub(crate) async fn q1_inboxes_have_addresses_of_their_own(cx: Context) -> Outcome {
    let (one, mut mine) = cx.broker().inbox().await?;
    let (other, mut yours) = cx.peer().inbox().await?;
    check!(one != other, "two inboxes at {one}");
    let mut everything = cx.receiver(Subscription::topic(">")?).await?;
    let mut sender = cx.sender().await?;
    for (address, number) in [(&one, 1), (&other, 2)] {
        let receipt = sender.send(numbered(address, number)).await?;
        let matched = receipt.matched;
        check!(
            (1..=2).contains(&matched) || !cx.has(Capability::MatchCount),
            "an inbox was matched {matched} times"
        );
    }
    expect(&mut mine, 1, "what came to the first inbox").await?;
    expect(&mut yours, 2, "what came to the second inbox").await?;
    // Replies are nobody else's business: a wildcard does not match the framework's own topics.
    if one.is_reserved() {
        sender.send(numbered(&cx.topic("news")?, 3)).await?;
        expect(&mut everything, 3, "the first message to match everything").await?;
    }
    Ok(())
}

pub(crate) async fn q1_a_full_inbox_holds_nobody_up(cx: Context) -> Outcome {
    let (address, mut inbox) = cx.broker().inbox().await?;
    let mut sender = cx.sender().await?;
    // More than an inbox may hold, and nobody reads it.
    send_numbers(&mut sender, |_| numbered(&address, 7), 0..70_000).await?;
    // Read again, it goes on.
    let mut batch = Vec::new();
    while batch.last().is_none_or(|last: &Delivery| last.payload() != "5") {
        sender.send(numbered(&address, 5)).await?;
        let count = inbox.recv_many(&mut batch, 8_192).await?;
        check!(count > 0, "the inbox has ended");
    }
    Ok(())
}

async fn request(responder: &mut Responder) -> Result<Request, Failure> {
    let request = responder.recv().await?;
    request.ok_or_else(|| Failure::new("the responder has ended"))
}

fn number_in(request: &Request) -> Result<u64, Failure> {
    std::str::from_utf8(request.payload())
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| Failure::new("a request that nobody sent"))
}
