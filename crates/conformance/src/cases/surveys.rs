//! Cases of law Q4, surveys, and of what becomes of answers that are given up half-way.

use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use posthaste_core::future::Asking;
use posthaste_core::{Bus, Error, ErrorKind, Request, Responder, SenderExt, Topic};

use crate::Context;
use crate::cancel::at_every_poll;
use crate::context::numbered;
use crate::failure::{Failure, Outcome, check, check_eq};
use crate::poll::{LocalFuture, all, both, for_ever};

/// What one who is asked does.
#[derive(Debug, Clone, Copy)]
enum Manner {
    Answers,
    Fails,
    Drops,
    Keeps,
}

/// Responders who all get a question of their own, each with its manner.
async fn crowd(
    cx: &Context,
    topic: &Topic,
    manners: &[Manner],
) -> Result<Vec<(Responder, Manner)>, Failure> {
    let mut crowd = Vec::new();
    for (nth, manner) in manners.iter().enumerate() {
        let group = cx.topic(&format!("group.{nth}"))?;
        crowd.push((cx.peer_bus().serve(topic).group(&group).open().await?, *manner));
    }
    Ok(crowd)
}

/// Does to one question what each does; those who keep theirs are returned.
async fn behave(crowd: Vec<(Responder, Manner)>) -> Result<Vec<(Responder, Request)>, Failure> {
    let all = all(crowd.into_iter().enumerate().map(|(nth, (mut responder, manner))| {
        let run: LocalFuture<'_, Result<Option<(Responder, Request)>, Failure>> =
            Box::pin(async move {
                let request = next_request(&mut responder).await?;
                match manner {
                    Manner::Answers => request.reply(nth.to_string()).await?,
                    Manner::Fails => request.fail("not today").await?,
                    Manner::Drops => drop(request),
                    Manner::Keeps => return Ok(Some((responder, request))),
                }
                Ok(None)
            });
        run
    }));
    Ok(all.await?.into_iter().flatten().collect())
}

async fn next_request(responder: &mut Responder) -> Result<Request, Failure> {
    let request = responder.recv().await?;
    request.ok_or_else(|| Failure::new("the responder has ended"))
}

fn check_no_slot_is_left(bus: &Bus) -> Outcome {
    let state = format!("{bus:?}");
    check!(state.contains("waiting_requests: 0"), "slots that are not free: {state}");
    Ok(())
}

pub(crate) async fn q4_a_survey_tells_every_answer_and_who_is_missing(cx: Context) -> Outcome {
    use Manner::{Answers, Drops, Fails};
    let topic = cx.topic("poll")?;
    let bus = cx.bus();
    for (manners, failed, missing) in [
        (&[Answers, Answers, Answers][..], 0, 0),
        (&[Answers, Fails, Answers, Drops][..], 1, 1),
        (&[Drops, Drops][..], 0, 2),
    ] {
        let crowd = crowd(&cx, &topic, manners).await?;
        let asking = async { Ok(bus.survey(&topic, "who?").await?) };
        let (survey, _) = both(asking, behave(crowd)).await?;
        let mut answers: Vec<_> =
            survey.answers.iter().map(|reply| reply.payload().to_vec()).collect();
        answers.sort_unstable();
        let expected = manners.iter().enumerate().filter(|(_, this)| matches!(this, Answers));
        let expected: Vec<_> = expected.map(|(nth, _)| nth.to_string().into_bytes()).collect();
        check_eq!(answers, expected, "the answers of {manners:?}");
        let found = (survey.failed.len(), survey.missing);
        check_eq!(found, (failed, missing), "who failed and who is missing, of {manners:?}");
        cx.until("all responders are gone", async || {
            Ok(cx.sender().await?.send(numbered(&topic, 0)).await?.matched == 0)
        })
        .await?;
    }
    check_no_slot_is_left(&bus)
}

pub(crate) async fn q4_a_survey_of_nobody_has_no_answers(cx: Context) -> Outcome {
    let bus = cx.bus();
    let survey = bus.survey(&cx.topic("nobody")?, "who?").await?;
    let found = (survey.answers.len(), survey.failed.len(), survey.missing);
    check_eq!(found, (0, 0, 0), "answers, failures and who is missing");
    check_no_slot_is_left(&bus)
}

pub(crate) async fn q4_a_survey_ends_at_its_deadline(cx: Context) -> Outcome {
    let topic = cx.topic("poll")?;
    let bus = cx.bus();
    let crowd = crowd(&cx, &topic, &[Manner::Keeps]).await?;
    let asking = async { Ok(bus.survey(&topic, "who?").within(Duration::from_millis(400)).await?) };
    let (survey, _kept) = both(asking, behave(crowd)).await?;
    check_eq!((survey.answers.len(), survey.missing), (0, 1), "answers, and who is missing");
    check_no_slot_is_left(&bus)
}

pub(crate) async fn q4_a_survey_may_be_given_up_at_every_poll(cx: Context) -> Outcome {
    let bus = cx.bus();
    let mut world = 0;
    at_every_poll(
        async || {
            world += 1;
            let topic = cx.topic(&format!("poll.{world}"))?;
            let crowd = crowd(&cx, &topic, &[Manner::Answers, Manner::Answers]).await?;
            Ok((topic, for_ever(async { behave(crowd).await.map(drop) })))
        },
        async |topic: &mut Topic| bus.survey(&*topic, "who?").await,
        async |behaving: &mut LocalFuture<'_, Outcome>| behaving.await,
        async |_, behaving, survey| {
            drop(behaving);
            if let Some(survey) = survey.transpose()? {
                check_eq!((survey.answers.len(), survey.missing), (2, 0), "answers, and missing");
            }
            check_no_slot_is_left(&bus)
        },
    )
    .await
}

// ---- answering

/// A request that is being answered, and the one who asked.
type Answering = (Option<Request>, Responder);

pub(crate) async fn q2_a_reply_that_is_given_up_leaves_nobody_waiting(cx: Context) -> Outcome {
    let reply = async |request: Request| request.reply("here").await;
    answer_at_every_poll(&cx, reply).await
}

pub(crate) async fn q2_a_failure_that_is_given_up_leaves_nobody_waiting(cx: Context) -> Outcome {
    let fail = async |request: Request| request.fail("not today").await;
    answer_at_every_poll(&cx, fail).await
}

async fn answer_at_every_poll(
    cx: &Context,
    mut answer: impl AsyncFnMut(Request) -> Result<(), Error>,
) -> Outcome {
    let topic = cx.topic("service")?;
    let bus = cx.bus();
    at_every_poll(
        async || {
            let mut responder = cx.peer_bus().serve(&topic).open().await?;
            let mut asking = Box::pin(bus.request(&topic, "please").into_future());
            let request = {
                let mut serving = Box::pin(next_request(&mut responder));
                std::future::poll_fn(|cx| {
                    if asking.as_mut().poll(cx).is_ready() {
                        return Poll::Ready(Err(Failure::new("an unanswered request ended")));
                    }
                    serving.as_mut().poll(cx)
                })
                .await?
            };
            Ok(((Some(request), responder), asking))
        },
        async |(request, _): &mut Answering| match request.take() {
            Some(request) => answer(request).await,
            None => Ok(()),
        },
        async |_| std::future::pending().await,
        async |answering, asking: Pin<Box<Asking>>, answered| {
            // One that was never polled is dropped with its request, which tells who asked.
            drop(answering);
            answered.transpose()?;
            let told = match asking.await {
                Ok(reply) => reply.payload() == "here",
                Err(error) => {
                    matches!(error.kind(), ErrorKind::NoResponders | ErrorKind::Failed)
                }
            };
            check!(told, "one who asked was told something else");
            Ok(())
        },
    )
    .await?;
    check_no_slot_is_left(&bus)
}
