//! The bus over a scripted broker, a clock set by hand and an executor that polls only the woken.

mod clock;
mod deadlines;
mod mock;
mod publishing;
mod requests;
mod serving;
mod tasks;
mod turns;
