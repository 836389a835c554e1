//! What the kernel hands over: the ring of records, counters and histograms, and stacks.
//!
//! Nothing is interpreted here; [`enrich`](crate::enrich) does that.

pub mod map_fill;
pub mod maps;
pub mod ring;
mod ring_fill;
pub mod stacks;
