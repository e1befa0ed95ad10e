//! Surveys: asking everybody who matches, and knowing how many are missing.

use std::future::{Future, IntoFuture, poll_fn};
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::question::{Question, Resting};
use super::request::{Ask, Reply};
use crate::{Error, ErrorKind};

/// How many answers of a survey may be unread at a time; more are as good as missing.
pub(super) const UNREAD_MAX: usize = 65_536;

/// What a [survey](super::Bus::survey) came to.
///
/// ```
/// # use posthaste_core::{Bus, Error, Message};
/// # use posthaste_memory::Memory;
/// # fn main() -> Result<(), Error> { pollster::block_on(async {
/// let bus = Bus::new(Memory::new());
/// let responder = bus.serve("health").alone().open().await?;
/// let serving = responder.run(async |_: Message| Ok::<_, Error>("fine"));
/// let surveying = async {
///     let survey = bus.survey("health", "").await?;
///     assert_eq!((survey.answers.len(), survey.missing), (1, 0));
///     assert_eq!(survey.answers[0].payload(), "fine");
///     Ok::<(), Error>(())
/// };
/// # let (serving, surveying) = (std::pin::pin!(serving), std::pin::pin!(surveying));
/// # futures::future::select(serving, surveying).await.factor_first().0
/// # }) }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Survey {
    /// The answers, in the order in which they came.
    pub answers: Vec<Reply>,
    /// What those said who answered that they failed.
    pub failed: Vec<Error>,
    /// How many were asked and said nothing: they were lost, or had no time.
    pub missing: u64,
}

impl IntoFuture for Ask<Survey> {
    type Output = Result<Survey, Error>;
    type IntoFuture = Surveying;

    fn into_future(self) -> Surveying {
        self.open()
    }
}

impl Ask<Survey> {
    /// The survey as something whose answers can be taken one by one, as they come.
    pub fn open(self) -> Surveying {
        let survey = Survey::default();
        Surveying { question: self.question, survey, answered: 0, lost: 0, done: false }
    }
}

/// A survey under way: the future of the whole, which hands out answers one by one too.
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct Surveying {
    question: Question,
    survey: Survey,
    answered: u64,
    /// Who was asked and will not answer.
    lost: u64,
    done: bool,
}

impl Surveying {
    /// The next answer, or `None` when everybody has answered or is lost, or the time is up.
    /// Awaiting the survey afterwards says how many are missing; the answers that were taken here
    /// are not in it.
    ///
    /// # Errors
    /// `Failed` from one who was asked; the survey goes on. Else why it cannot go on; after that
    /// comes the end.
    ///
    /// # Cancel safety
    /// Safe: an answer is taken or is not.
    pub async fn next(&mut self) -> Option<Result<Reply, Error>> {
        let resting = Resting(self);
        poll_fn(|cx| resting.0.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Reply, Error>>> {
        while !self.done {
            let heard = self.question.poll(cx);
            let asked = self.question.matched;
            let complete = asked.is_some_and(|asked| self.answered + self.lost >= asked);
            match heard {
                // What comes beyond is not waited for, but what is there is taken.
                Poll::Pending if !complete => return Poll::Pending,
                Poll::Pending => self.end(),
                Poll::Ready(Ok(reply)) => match self.question.read(reply) {
                    Err(error) if error.kind() == ErrorKind::NoResponders => self.lost += 1,
                    answer => {
                        self.answered += 1;
                        return Poll::Ready(Some(answer));
                    }
                },
                Poll::Ready(Err(error)) => {
                    self.end();
                    if error.kind() != ErrorKind::DeadlineExceeded || asked.is_none() {
                        return Poll::Ready(Some(Err(error)));
                    }
                }
            }
        }
        Poll::Ready(None)
    }

    fn end(&mut self) {
        self.done = true;
        self.question.finish();
    }
}

impl Future for Surveying {
    type Output = Result<Survey, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        while let Some(answer) = ready!(this.poll_next(cx)) {
            match answer {
                Ok(reply) => this.survey.answers.push(reply),
                Err(error) if this.done => return Poll::Ready(Err(error)),
                Err(error) => this.survey.failed.push(error),
            }
        }
        let mut survey = mem::take(&mut this.survey);
        survey.missing = this.question.matched.unwrap_or(0).saturating_sub(this.answered);
        Poll::Ready(Ok(survey))
    }
}

impl AsMut<Question> for Surveying {
    fn as_mut(&mut self) -> &mut Question {
        &mut self.question
    }
}
