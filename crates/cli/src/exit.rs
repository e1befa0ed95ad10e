//! How the program ends: its exit codes, and failures as one sentence.

use std::io::{self, IsTerminal, Write};
use std::process;

use posthaste::{Error, ErrorKind};

/// The exit codes, which scripts rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// All was done.
    Done = 0,
    /// Something failed, or was not confirmed.
    Failed = 1,
    /// The command line, a URL or a configuration is wrong.
    Usage = 2,
    /// A message matched nobody, and was required to match somebody.
    Unmatched = 3,
    /// Fewer messages came than were asked for, or a deadline passed.
    TooLate = 4,
    /// Nobody is there to answer a request.
    NoResponders = 5,
}

impl Code {
    pub(crate) fn exit(self) -> ! {
        // Not by returning from `main`: a thread that waits for a line of a terminal, or for a
        // reader of a full pipe, cannot be joined.
        process::exit(self as i32)
    }
}

/// Why a command did not do what it should: an exit code, and a sentence for stderr.
#[derive(Debug)]
pub(crate) struct Failure {
    code: Code,
    /// Absent where the program ends without a word, because its reader has gone.
    sentence: Option<String>,
}

impl Failure {
    pub(crate) fn new(code: Code, sentence: impl Into<String>) -> Self {
        let sentence = one_line(&sentence.into());
        Self { code, sentence: Some(sentence) }
    }

    /// Whoever read stdout has gone, as in `posthaste sub '>' | head -1`: a quiet end.
    pub(crate) fn unread() -> Self {
        Self { code: Code::Done, sentence: None }
    }

    /// The sentence.
    pub(crate) fn sentence(&self) -> &str {
        self.sentence.as_deref().unwrap_or_default()
    }

    /// Says the sentence on stderr and gives the code.
    pub(crate) fn report(&self) -> Code {
        if let Some(sentence) = &self.sentence {
            complain(sentence);
        }
        self.code
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(code_of(&error), error.to_string())
    }
}

impl From<io::Error> for Failure {
    /// The failure of a write to stdout.
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::unread();
        }
        Self::new(Code::Failed, format!("cannot write to stdout: {error}"))
    }
}

fn code_of(error: &Error) -> Code {
    match error.kind() {
        ErrorKind::NoResponders => Code::NoResponders,
        ErrorKind::DeadlineExceeded => Code::TooLate,
        _ => Code::Failed,
    }
}

/// Writes `error: SENTENCE` to stderr.
pub(crate) fn complain(sentence: &str) {
    let mut stderr = io::stderr().lock();
    let label = if stderr.is_terminal() { "\x1b[1;31merror:\x1b[0m" } else { "error:" };
    // There is nowhere left to say that stderr is closed.
    let _ = writeln!(stderr, "{label} {sentence}");
}

/// Writes a remark to stderr.
pub(crate) fn note(sentence: &str) {
    // A remark that nobody can read is no failure.
    let _ = writeln!(io::stderr().lock(), "{sentence}");
}

/// A panic is a bug, and is reported as one sentence, too.
pub(crate) fn install_panic_hook(on_panic: impl Fn() + Send + Sync + 'static) {
    std::panic::set_hook(Box::new(move |panic| {
        let payload = panic.payload();
        let what = payload
            .downcast_ref::<&str>()
            .map(ToString::to_string)
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "no reason was given".to_owned());
        let at = panic
            .location()
            .map_or_else(String::new, |at| format!(" ({}:{})", at.file(), at.line()));
        complain(&one_line(&format!("internal error, please report it: {what}{at}")));
        on_panic();
    }));
}

fn one_line(text: &str) -> String {
    text.split('\n').map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}
