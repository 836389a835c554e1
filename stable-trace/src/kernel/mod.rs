//! What this kernel is: its symbols, its tracepoints, its devices and what it lets us do.
//!
//! Everything here reads facts, and says where each came from; what to do with them is decided in
//! the plan of the probes.

pub mod btf;
pub mod device_stack;
pub mod devices;
pub mod feature_probe;
pub mod lockdown;
pub mod memlock;
pub mod modules;
pub mod mounts;
pub mod preemption;
mod private_mount;
pub mod privileges;
pub mod release;
pub mod symbols;
pub(crate) mod sysfs;
pub mod tracefs;
pub mod tracepoint;
