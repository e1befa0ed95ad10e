//! One message to several mailboxes: into all of them, or into none.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use posthaste_core::{Kind, Message};

use crate::copies::Admission;
use crate::mailbox::Mailbox;

/// Keeps room at every target before any gets a copy; gives the room up again if one refuses, and
/// says which.
pub(crate) fn put_everywhere<'a>(
    targets: &'a [Arc<Mailbox>],
    message: &Message,
    waker: &Waker,
) -> Result<u64, (&'a Arc<Mailbox>, Admission)> {
    let (size, plain) = (message.size(), message.is_plain());
    for (index, target) in targets.iter().enumerate() {
        if plain && target.reserve_plainly(message) {
            continue;
        }
        let reserved = target.with(|state, after| state.reserve(message, waker, after));
        if !matches!(reserved, Admission::Taken) {
            for this in &targets[..index] {
                this.with(|state, after| state.unreserve(size, after));
            }
            return Err((target, reserved));
        }
    }
    let taken = |target: &&Arc<Mailbox>| target.admit_reserved(message, plain);
    Ok(targets.iter().filter(taken).count() as u64)
}

/// Puts as many of the first `most` messages everywhere as there is room for at once, and says how
/// many those were and how many copies that made. The first one that is in any way special, or
/// finds no room, is left alone, and so are all behind it. A request is special: should its
/// targets go meanwhile, its requester has to hear of it.
pub(crate) fn put_run_everywhere(
    targets: &[Arc<Mailbox>],
    messages: &mut VecDeque<Message>,
    most: usize,
) -> (usize, usize) {
    let plain = |message: &&Message| message.kind() != Kind::Request;
    let mut run = messages.iter().take(most).take_while(plain).count();
    for (index, target) in targets.iter().enumerate() {
        let kept = target.with(|state, _| state.reserve_run(messages.iter().take(run)));
        if kept < run {
            let surplus: usize = messages.range(kept..run).map(Message::size).sum();
            for this in &targets[..index] {
                this.with(|state, after| state.unreserve_run(run - kept, surplus, after));
            }
            run = kept;
        }
    }
    let mut copies = 0;
    if run > 0 {
        for target in targets {
            let run = messages.iter().take(run).cloned();
            copies += target.with(|state, after| state.admit_reserved_run(run, after));
        }
    }
    // Dropped without a lock.
    messages.drain(..run);
    (run, copies)
}

/// Puts a run into every target, or into none: as a whole where that takes it so, message by message
/// where it does not. So one that has to look at each costs the others nothing.
pub(crate) fn put_whole_everywhere(targets: &[Arc<Mailbox>], run: &Message) -> Option<u64> {
    let count = usize::try_from(run.count()).unwrap_or(usize::MAX);
    let mut pieces: Vec<Message> = Vec::new();
    let mut whole = Vec::with_capacity(targets.len());
    for (index, target) in targets.iter().enumerate() {
        if target.with(|state, _| state.reserve_whole(run)) {
            whole.push(true);
            continue;
        }
        if pieces.is_empty() {
            pieces.extend(run.each());
        }
        let kept = target.with(|state, _| state.reserve_run(pieces.iter()));
        if kept < count {
            let surplus: usize = pieces.iter().take(kept).map(Message::size).sum();
            target.with(|state, after| state.unreserve_run(kept, surplus, after));
            for this in &targets[..index] {
                this.with(|state, after| state.unreserve_run(count, run.size(), after));
            }
            return None;
        }
        whole.push(false);
    }
    let mut copies = 0;
    for (target, whole) in targets.iter().zip(whole) {
        copies += target.with(|state, after| match whole {
            true if state.admit_reserved_whole(run.clone(), after) => count,
            true => 0,
            false => state.admit_reserved_run(pieces.iter().cloned(), after),
        });
    }
    Some(copies as u64)
}
