//! From events and counts to statements. Pure: no I/O, no kernel.
//!
//! [`engine::Engine`] is what a run and a report feed their lines to; the rest is what it is made
//! of. Everything here sees only lines of the stream, so a recording gives what the run gave.

pub mod association;
pub mod disks;
pub mod engine;
pub mod pairing;
pub mod tally;
pub mod verdict;

#[cfg(test)]
pub(crate) mod sample;
