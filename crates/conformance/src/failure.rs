//! Why a case failed, and where; the checks that cases are made of.

use std::fmt;
use std::io;
use std::panic::Location;

use posthaste_core::{Error, SendError};

use crate::Law;

/// Why a case failed: one sentence, and the place in the kit that found it.
#[derive(Debug, Clone)]
pub struct Failure {
    text: String,
    law: Option<Law>,
    at: &'static Location<'static>,
}

/// The longest sentence, in characters: a list of thousands of numbers helps nobody.
const TEXT_CHARS_MAX: usize = 400;

/// What a case comes to.
pub type Outcome = Result<(), Failure>;

impl Failure {
    /// A failure found where this is called.
    #[track_caller]
    pub fn new(text: impl Into<String>) -> Self {
        let mut text = text.into();
        if let Some((cut, _)) = text.char_indices().nth(TEXT_CHARS_MAX) {
            text.truncate(cut);
            text.push_str(" ...");
        }
        Self { text, law: None, at: Location::caller() }
    }

    /// Says that it is another law than the case's own that is broken.
    #[must_use]
    pub fn of(mut self, law: Law) -> Self {
        self.law = Some(law);
        self
    }

    /// Says after how many polls a future was given up.
    pub(crate) fn after(mut self, polls: usize) -> Self {
        self.text = format!("given up after {polls} polls: {}", self.text);
        self
    }

    /// The law that is broken, if it is another than the case's own.
    #[must_use]
    pub fn law(&self) -> Option<Law> {
        self.law
    }

    /// The sentence, without the place.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}:{})", self.text, self.at.file(), self.at.line())
    }
}

impl std::error::Error for Failure {}

// An error that a case does not expect is a failure at the place of its question mark.

impl From<Error> for Failure {
    #[track_caller]
    fn from(error: Error) -> Self {
        Self::new(format!("an unexpected error, {error:?}"))
    }
}

impl From<SendError> for Failure {
    #[track_caller]
    fn from(failed: SendError) -> Self {
        Self::new(format!("an unexpected error, {:?}", failed.error()))
    }
}

impl From<io::Error> for Failure {
    #[track_caller]
    fn from(error: io::Error) -> Self {
        Self::new(format!("an unexpected error, {:?}: {error}", error.kind()))
    }
}

/// Fails the case with the text unless the condition holds.
macro_rules! check {
    ($holds:expr, $($text:tt)+) => {
        if !$holds {
            return Err($crate::Failure::new(format!($($text)+)));
        }
    };
}

/// Fails the case unless the first value equals the second, saying both.
macro_rules! check_eq {
    ($found:expr, $expected:expr, $($what:tt)+) => {{
        let (found, expected) = (&$found, &$expected);
        if found != expected {
            let what = format!($($what)+);
            return Err($crate::Failure::new(format!(
                "{what}: {found:?} instead of {expected:?}"
            )));
        }
    }};
}

pub(crate) use {check, check_eq};
