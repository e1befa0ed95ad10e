//! Checks of numbers: books that balance, bounds that hold.

use super::{Check, my};
use crate::history::What;

/// All books that were recorded balance: every copy that was accepted is accounted for.
#[must_use]
pub fn books_balance() -> Check {
    my("the books balance", |history| {
        for (_, what) in history.iter() {
            if let What::Books { ledger } = what
                && !ledger.is_balanced()
            {
                return Err(format!("{ledger}"));
            }
        }
        Ok(())
    })
}

/// No number that was recorded with a bound is above it.
#[must_use]
pub fn bounds_hold() -> Check {
    my("bounds hold", |history| {
        for (_, what) in history.iter() {
            if let What::HighWater { what, value, limit } = what
                && value > limit
            {
                return Err(format!("{what} came to {value}, and {limit} is the bound"));
            }
        }
        Ok(())
    })
}
