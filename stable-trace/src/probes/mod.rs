//! The probes: what this kernel offers, the plan of what attaches, and loading and attaching.

pub mod attach;
pub mod facts;
pub mod kretprobe;
pub mod load;
pub mod offsets;
pub mod plan;
pub mod table;
