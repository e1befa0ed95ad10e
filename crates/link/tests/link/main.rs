//! What a remote broker over a link promises, on every runtime, over an in-memory transport.

mod accounts;
mod bounds;
mod calls;
mod chaos;
mod company;
mod dropping;
mod ending;
mod gaps;
mod hostile;
mod leaving;
mod losing;
mod reading;
mod receiving;
mod resuming;
mod scripted;
mod sending;
mod support;
mod working;
