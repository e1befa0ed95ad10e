//! How copies come back that are in the store alone.

use std::future::poll_fn;
use std::sync::Arc;

use posthaste_core::runtime::blocking;
use posthaste_core::{Error, Level, SharedRuntime};

use super::Engine;
use crate::aftermath::Aftermath;
use crate::mailbox::Mailbox;
use crate::state::{InStore, State};
use crate::store::{Kept, Paged, Store};

impl Engine {
    /// Has a queue's next copies read back.
    pub(super) fn begin_reading(&self, mailbox: &Arc<Mailbox>) {
        self.have_read(mailbox, |state| state.next_pages(), State::read_back);
    }

    /// Has those of a queue's copies read back that have waited as long as they were to.
    pub(super) fn read_delayed(&self, mailbox: &Arc<Mailbox>) {
        self.have_read(mailbox, State::next_delayed, State::read_back_delayed);
    }

    /// Has the next messages of a history read back for one who reads it.
    pub(super) fn read_on(&self, mailbox: &Arc<Mailbox>, consumer: u64) {
        let next = move |state: &mut State| state.next_pages_of(consumer);
        self.have_read(mailbox, next, move |state, copies, after| {
            state.read_back_for(consumer, copies, after);
        });
    }

    /// Has what a mailbox says read, and then does something with it there.
    fn have_read(
        &self,
        mailbox: &Arc<Mailbox>,
        next: impl Fn(&mut State) -> Vec<Paged> + Send + Sync + 'static,
        then: impl FnOnce(&mut State, Result<Vec<Kept>, Error>, &mut Aftermath) + Send + 'static,
    ) {
        let (Some(store), Some(runtime)) = (self.store().cloned(), self.home.runtime.clone())
        else {
            return;
        };
        let (mailbox, spawner) = (Arc::downgrade(mailbox), runtime.clone());
        spawner.spawn(Box::pin(async move {
            let next = || match mailbox.upgrade() {
                Some(mailbox) => mailbox.with(|state, _| next(state)),
                None => Vec::new(),
            };
            let copies = match read(&store, &runtime, next).await {
                Ok((_, copies)) => Ok(copies),
                Err(error) => match readable(&store, &runtime, next()).await {
                    Ok(read) if !read.is_empty() => Ok(read),
                    _ => Err(error),
                },
            };
            if let Some(mailbox) = mailbox.upgrade() {
                mailbox.with(|state, after| then(state, copies, after));
            }
        }));
    }

    /// Reads a queue's next copies back.
    pub(super) async fn read_back(&self, mailbox: &Mailbox) -> Result<(), Error> {
        let next = || mailbox.with(|state, _| state.next_pages());
        let (_, copies) = self.read(next).await?;
        mailbox.with(|state, after| state.read_back(Ok(copies), after));
        Ok(())
    }

    /// Reads what `named` names, which stays where it is; asks again if that has changed meanwhile.
    pub(super) async fn read<T: Copies>(
        &self,
        named: impl Fn() -> T,
    ) -> Result<(T, Vec<Kept>), Error> {
        match (self.store(), &self.home.runtime) {
            (Some(store), Some(runtime)) => read(store, runtime, named).await,
            _ => Ok((named(), Vec::new())),
        }
    }

    /// Has the copies of a queue noted again that are in the store alone, and whose places are before
    /// this one; whether all of them could be. Blocks.
    pub(super) fn relocate_pages(&self, mailbox: &Mailbox, before: u64) -> bool {
        let Some(store) = self.store() else { return false };
        for what in [InStore::InOrder, InStore::Delayed] {
            loop {
                let copies = mailbox.with(|state, _| state.pages_before(what, before));
                if copies.is_empty() {
                    break;
                }
                match store.read(&copies) {
                    Ok(copies) => {
                        mailbox.with(|state, _| state.relocate_pages(what, copies, before));
                    }
                    // Who takes them is told; until then nothing is lost if they stay where they are,
                    // and as long as they do nothing behind them can be forgotten.
                    Err(_) => return false,
                }
            }
        }
        true
    }
}

/// What names copies that are to be read.
pub(super) trait Copies {
    fn copies(&self) -> Vec<Paged>;
}

impl Copies for Vec<Paged> {
    fn copies(&self) -> Vec<Paged> {
        self.clone()
    }
}

/// Reads those in front of the first one that cannot be read.
async fn readable(
    store: &Arc<dyn Store>,
    runtime: &SharedRuntime,
    copies: Vec<Paged>,
) -> Result<Vec<Kept>, Error> {
    are_written(store, &copies).await?;
    let reader = Arc::clone(store);
    let read = move || {
        let (mut read, mut count) = (Vec::new(), copies.len().next_power_of_two());
        while count > 1 {
            count /= 2;
            let some = copies.get(read.len()..read.len() + count);
            read.extend(some.and_then(|some| reader.read(some).ok()).into_iter().flatten());
        }
        read
    };
    Ok(blocking(&**runtime, read).await)
}

/// Waits until copies are where a store can read them.
async fn are_written(store: &Arc<dyn Store>, copies: &[Paged]) -> Result<(), Error> {
    let upto = copies.iter().map(|copy| copy.place.saturating_add(1)).max().unwrap_or(0);
    poll_fn(|cx| store.poll_reached(upto, Level::Written, cx)).await
}

async fn read<T: Copies>(
    store: &Arc<dyn Store>,
    runtime: &SharedRuntime,
    named: impl Fn() -> T,
) -> Result<(T, Vec<Kept>), Error> {
    let mut names = named();
    loop {
        let copies = names.copies();
        if copies.is_empty() {
            return Ok((names, Vec::new()));
        }
        are_written(store, &copies).await?;
        let (reader, read) = (Arc::clone(store), copies.clone());
        match blocking(&**runtime, move || reader.read(&read)).await {
            Ok(read) => return Ok((names, read)),
            // Those that have moved or gone since are not where they were.
            Err(error) => {
                names = named();
                if names.copies() == copies {
                    return Err(error);
                }
            }
        }
    }
}
