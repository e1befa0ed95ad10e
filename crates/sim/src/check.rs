//! Checks: what has to hold of a history, as values that look at it once the scenario has ended.
//!
//! Each takes time in proportion to the history. They know nothing of the simulator, so a history
//! that was recorded elsewhere is checked the same way.

mod books;
mod order;
mod queues;
mod requests;
mod topics;

use std::fmt;
use std::sync::Mutex;

use crate::history::{History, Name};

pub use books::{books_balance, bounds_hold};
pub use order::{
    confirms_are_ordered, fifo_per_sender, keys_are_in_order, nothing_comes_early,
    retried_come_back_first,
};
pub use queues::{
    at_most, each_attempt_once, every_send_has_an_outcome, ids_are_taken_once, no_confirmed_loss,
    no_confirmed_loss_but_by, no_invention, one_holder_at_a_time, settled_ids_stay_settled,
    settled_stays_settled, the_dead_are_kept,
};
pub use requests::requests_have_one_outcome;
pub use topics::subscribers_miss_nothing_unsaid;

/// Something that has to hold of a history.
pub struct Check {
    name: String,
    look: Look,
}

type Look = Box<dyn Fn(&History) -> Result<(), String> + Send + Sync>;

/// A check of your own: `look` says what is wrong, by the names of the messages.
///
/// ```
/// use posthaste_sim::check;
///
/// let paid_once = check::my("every order is paid once", |history| {
///     let paid: Vec<&str> = history.notes("paid").collect();
///     for (at, order) in paid.iter().enumerate() {
///         if paid[..at].contains(order) {
///             return Err(format!("{order} was paid twice"));
///         }
///     }
///     Ok(())
/// });
/// assert_eq!(paid_once.name(), "every order is paid once");
/// ```
pub fn my(
    name: impl Into<String>,
    look: impl Fn(&History) -> Result<(), String> + Send + Sync + 'static,
) -> Check {
    Check { name: name.into(), look: Box::new(look) }
}

impl Check {
    /// What has to hold, in words.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Looks at a history.
    ///
    /// # Errors
    /// What is wrong, by the names of the messages.
    pub fn look(&self, history: &History) -> Result<(), String> {
        (self.look)(history)
    }
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Check").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The checks of a world.
#[derive(Default)]
pub(crate) struct Checks(pub(crate) Mutex<Vec<Check>>);

/// Names for people: the first few, and how many there are.
fn some_of(names: &[Name]) -> String {
    const SHOWN: usize = 8;
    let shown: Vec<&str> = names.iter().take(SHOWN).map(|name| &**name).collect();
    match names.len() {
        0..=SHOWN => shown.join(", "),
        all => format!("{} and {} more", shown.join(", "), all - SHOWN),
    }
}

/// Nothing is wrong if there are none of them.
fn none_of(what: &str, names: &[Name]) -> Result<(), String> {
    match names {
        [] => Ok(()),
        names => Err(format!("{what}: {}", some_of(names))),
    }
}
