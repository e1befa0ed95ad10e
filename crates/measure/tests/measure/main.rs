//! What the shared parts of measurements promise.

mod plotting;
mod summing;
mod timing;
mod using;
mod writing;
