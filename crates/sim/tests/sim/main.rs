//! The simulator itself: time, tasks, nodes, the network, and that a seed is all there is to it.

mod determinism;
mod disks;
mod failing;
mod network;
mod running;
