//! What this machine is: its kernel's symbols, types and tracepoints, its devices and mounts, and
//! the privileges of this process.
//!
//! Everything here reads facts. The plan of the probes decides what follows from them.

pub mod btf;
pub mod device_stack;
pub mod device_users;
pub mod devices;
pub mod feature_probe;
pub mod lockdown;
pub mod memlock;
pub mod modules;
pub mod mountinfo;
pub mod mounts;
pub mod preemption;
pub(crate) mod private_mount;
pub mod privileges;
pub mod release;
pub mod symbols;
pub(crate) mod sysfs;
#[cfg(test)]
mod test_sysfs;
pub mod tracefs;
pub mod tracepoint;
