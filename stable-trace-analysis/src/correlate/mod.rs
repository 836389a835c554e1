//! Computes verdicts, associations and totals from the lines of a stream.
//!
//! A run and a report feed their lines to [`engine::Engine`]. The results depend on these lines
//! only, so a report of a recording gives the same results as the run. There is no I/O here.

mod association;
mod disks;
pub mod engine;
mod pairing;
pub mod tally;
pub mod verdict;

#[cfg(test)]
pub(crate) mod sample;
