//! What this machine is: its kernel's symbols, types and tracepoints, its devices and mounts, and
//! the privileges of this process.
//!
//! Everything here reads facts, and the plan of the probes decides what follows from them; but
//! `least_privilege` changes the privileges of threads, and `limits` those of the process.

pub(crate) mod btf;
pub(crate) mod data_risk;
pub(crate) mod device_family;
pub(crate) mod device_stack;
pub(crate) mod device_users;
pub(crate) mod devices;
mod dm_table;
pub(crate) mod dm_tables;
pub(crate) mod feature_probe;
pub(crate) mod hidden_disks;
pub(crate) mod least_privilege;
pub(crate) mod limits;
pub(crate) mod lockdown;
pub(crate) mod modules;
pub(crate) mod mountinfo;
pub(crate) mod mounts;
mod perf_events;
pub(crate) mod pid_namespace;
pub(crate) mod preemption;
pub(crate) mod private_mount;
pub(crate) mod privileges;
pub(crate) mod process_tree;
pub(crate) mod protection;
pub(crate) mod release;
pub(crate) mod symbols;
pub(crate) mod sysfs;
#[cfg(test)]
mod test_sysfs;
pub(crate) mod tracefs;
pub(crate) mod tracepoint;
