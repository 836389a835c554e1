//! The probes: what this kernel offers, what of it is used, and the programs that run there.

pub mod attach;
pub mod facts;
pub mod kretprobe;
pub mod load;
pub mod offsets;
pub mod plan;
pub mod table;
