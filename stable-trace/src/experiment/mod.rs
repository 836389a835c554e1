//! `stable-trace experiment`: the same workload with stable writes on and off, alternately, and the
//! ratio of the two.
//!
//! [`ExperimentArgs`] are its options, and `plan::Plan` is what they mean after validation.
//! `runner::run` measures each [`cell::Cell`], and `report` prints it. The `undo_journal` records
//! every change to the system before it is made, so that a later process can undo it.

mod args;
mod block_target;
pub mod cell;
mod error;
mod loop_device;
mod mkfs;
mod plan;
mod process;
mod report;
mod run;
pub(crate) mod runner;
mod stable_writes;
mod system_change;
mod undo_journal;

pub use args::ExperimentArgs;
