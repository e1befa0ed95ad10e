//! Real brokers, links and buses in hostile worlds: what they promise holds in every one, and every
//! bug that is planted is found.

mod durable;
mod endings;
mod guarantees;
mod planted;
mod planted_disks;
mod planted_links;
mod scenarios;
mod support;
mod sweep;
mod twice;
mod waiting;
mod ways;
