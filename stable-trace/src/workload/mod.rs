//! The paired workload: rewrite the same pages as fast as it goes, and sync every write.
//!
//! [`WacArgs`] are what a user types, [`plan::Plan`] is what that means once it was found sane,
//! [`wac::run`] does it in this process, [`command::run_standalone`] is the whole of
//! `stable-trace wac --no-trace`, and [`child`] runs that as a process of its own for an agent.

pub mod args;
pub mod child;
pub mod command;
pub mod counters;
pub mod device;
pub mod errno;
pub mod error;
pub mod identity;
mod lines;
pub mod plan;
pub mod profile;
pub mod progress;
mod region;
pub mod rng;
pub mod scratch;
mod sigbus;
mod signals;
mod start_barrier;
mod stop_condition;
pub mod wac;
mod worker;

pub use args::WacArgs;
pub use error::WorkloadError;
pub use plan::{Plan, Sync, Target};
pub use profile::{Mode, Profile};
