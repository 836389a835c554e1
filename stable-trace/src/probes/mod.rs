//! The probes: what this kernel offers, the plan of what attaches, and loading and attaching.

pub(crate) mod attach;
pub(crate) mod attached;
pub mod facts;
pub(crate) mod kretprobe;
pub(crate) mod load;
pub mod offsets;
pub mod plan;
mod step;
pub(crate) mod table;
pub(crate) mod tasks;
