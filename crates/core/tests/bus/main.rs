//! The bus over a scripted broker, a clock set by hand and an executor that polls only the woken.

mod cancelling;
mod clock;
mod deadlines;
mod in_process;
mod mock;
mod publishing;
mod requests;
mod serving;
mod sessions;
mod streams;
mod surveys;
mod tasks;
mod turns;
