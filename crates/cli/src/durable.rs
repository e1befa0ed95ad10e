//! Queues that are to be kept on disk, where the broker has none.

use posthaste::{Error, ErrorKind};

use crate::exit::{Code, Failure};

/// Why a declaration or a sender was refused, and what to do if it `asked` for durability in vain.
pub(crate) fn refusal(error: Error, asked: bool) -> Failure {
    if !asked || error.kind() != ErrorKind::Unsupported {
        return error.into();
    }
    let text = format!(
        "{error}, so this broker cannot keep the queue on disk: start the broker with --data DIR, or \
         leave --durable out"
    );
    Failure::new(Code::Failed, text)
}
