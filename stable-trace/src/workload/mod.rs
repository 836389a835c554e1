//! `wac`, the write-after-checksum workload: threads rewrite the same pages as fast as they can and
//! sync each write.
//!
//! [`WacArgs`] are its options, and `Plan` is what they mean after validation. `wac::run` runs a
//! plan in this process, `command::run_standalone` is `stable-trace wac --no-trace`, and [`child`]
//! runs that command as a child process of the agent.

mod args;
pub mod child;
pub(crate) mod command;
mod counters;
mod drop_privileges;
mod errno;
mod error;
pub(crate) mod exclusive_device;
mod line_splitter;
mod plan;
mod profile;
pub(crate) mod progress;
mod region;
mod rng;
mod scratch;
mod sigbus;
mod signals;
mod start_barrier;
mod stop_condition;
mod sync;
mod test_disk;
mod wac;
mod worker;

pub use args::WacArgs;
pub use error::WorkloadError;
pub(crate) use plan::Plan;
pub use profile::Profile;
pub use sync::SyncMethod;
