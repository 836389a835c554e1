//! The A/B measurement: the same workload with stable writes on and off, in turn, and what the
//! difference is.
//!
//! [`ExperimentArgs`] are what a user types, [`plan::Plan`] is what that means, [`runner::run`]
//! does it, [`cell::Cell`] is one line of the outcome and [`report`] prints it. Every change to the
//! machine goes through the [`undo_journal`], which puts it back, if need be in a later process. The plan,
//! the statistics and the cells are pure.

pub mod args;
mod block_target;
pub mod cell;
mod change;
pub mod error;
mod loop_device;
mod mkfs;
pub mod plan;
mod process;
pub mod report;
mod run;
pub mod runner;
mod stable_writes;
mod undo_journal;

pub use args::ExperimentArgs;
pub use error::ExperimentError;
