//! Reads what the programs collect: records of the ring buffer, counters, histograms, stacks.
//!
//! Nothing is interpreted here; [`enrich`](crate::enrich) does that.

pub mod map_fill;
pub mod maps;
pub mod ring;
mod ring_fill;
pub mod stacks;
