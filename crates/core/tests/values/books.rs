//! Cards, receipts, ledgers and errors say what they mean.

use std::error::Error as _;
use std::io;

use posthaste_core::{
    Capabilities, Capability, DrainReport, Error, ErrorKind, Ledger, Level, Message, Receipt,
    SendError, Seq, Support, Topic,
};

#[test]
fn a_capability_keeps_its_number_and_its_name() {
    let names: Vec<_> = Capability::ALL.iter().map(Capability::to_string).collect();
    for (number, capability) in Capability::ALL.into_iter().enumerate() {
        assert_eq!(usize::from(capability.as_u8()), number);
        assert_eq!(Capability::from_u8(capability.as_u8()), Some(capability));
        assert_eq!(names.iter().filter(|name| **name == names[number]).count(), 1);
    }
    assert_eq!(Capability::from_u8(31), None);
}

#[test]
fn a_card_lists_everything_and_refuses_what_is_lacking() {
    let card =
        Capabilities::new("toy").native(&[Capability::Topics]).emulated(&[Capability::Groups]);
    assert_eq!(card.iter().count(), Capability::ALL.len());
    assert_eq!(card.support(Capability::Topics), Support::Native);
    assert_eq!(card.support(Capability::Groups), Support::Emulated);
    assert_eq!(card.support(Capability::Queues), Support::Lacking);
    assert!(card.has(Capability::Groups) && card.require(Capability::Groups).is_ok());
    let error = card.named("toy at home").require(Capability::Queues).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(error.to_string(), "toy at home does not support queues");
}

#[test]
fn a_receipt_claims_the_least_that_holds_for_all() {
    let mut receipt = Receipt::empty(Seq::new(3));
    receipt.confirm(2, 5, Level::Stored, 3);
    receipt.confirm(1, 1, Level::Held, 1);
    let mut later = Receipt::empty(Seq::new(5));
    later.confirm(1, 0, Level::Written, 2);
    later.returned = 1;
    receipt.merge(&later);
    assert_eq!((receipt.upto, receipt.confirmed, receipt.returned), (Seq::new(5), 4, 1));
    assert_eq!((receipt.matched, receipt.level, receipt.nodes), (6, Level::Held, 1));
}

#[test]
fn a_level_survives_its_number_and_its_name_and_an_unknown_one_claims_nothing() {
    for level in [Level::Sent, Level::Held, Level::Written, Level::Stored] {
        assert_eq!(Level::from_u8(level.as_u8()), level);
        assert_eq!(level.to_string().parse::<Level>().unwrap(), level);
    }
    assert_eq!(Level::from_u8(9), Level::Sent);
    assert_eq!("Stored".parse::<Level>().unwrap_err().kind(), ErrorKind::InvalidArgument);
}

#[test]
fn a_ledger_balances_or_says_that_it_does_not() {
    let mut books = Ledger {
        accepted: 6,
        acked: 1,
        auto: 1,
        dead_lettered: 1,
        expired: 1,
        dropped: 1,
        held: 1,
        dropped_by: [("overflow".to_owned(), 1)].into(),
        ..Ledger::default()
    };
    assert!(books.is_balanced() && !books.to_string().contains("balance"));
    books.add(&books.clone());
    assert!(books.is_balanced());
    assert_eq!((books.accepted, books.dropped_by["overflow"]), (12, 2));
    books.dropped_by.clear();
    assert!(!books.is_balanced());
    assert!(books.to_string().ends_with("(does not balance)"));
    let report = DrainReport { finished: 1, requeued: 2, abandoned: 3, held: 4 };
    assert_eq!(report.to_string(), "finished 1, requeued 2, abandoned 3, held 4");
}

#[test]
fn an_error_keeps_kind_text_and_cause() {
    let error = Error::from(io::Error::new(io::ErrorKind::TimedOut, "slow"));
    assert_eq!((error.kind(), error.text()), (ErrorKind::TimedOut, "slow"));
    assert!(error.is_retryable() && error.source().is_some());
    let copy = error.clone();
    assert_eq!((copy.kind(), copy.source().is_none()), (ErrorKind::TimedOut, true));
    assert_eq!(format!("{error:?}"), "TimedOut: slow");
    assert!(!Error::closed("the sender").is_retryable());
    let message = Message::new(Topic::new("a").unwrap(), "x");
    let failed = SendError::new(error, message.clone());
    assert_eq!((failed.to_string(), failed.message()), ("slow".to_owned(), &message));
    assert!(failed.source().is_some());
    assert_eq!(Error::from(failed).kind(), ErrorKind::TimedOut);
    assert_eq!(size_of::<Error>(), size_of::<usize>());
}
