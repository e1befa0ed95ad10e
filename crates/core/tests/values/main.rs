//! The values that everything is made of: addresses, messages, cards, receipts, books, wakers.

mod addresses;
mod books;
mod heads;
mod messages;
mod wakers;
