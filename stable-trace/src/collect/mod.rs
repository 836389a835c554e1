//! Reads what the programs collect: records of the ring buffer, counters, histograms, stacks.
//!
//! Nothing is interpreted here; `enrich` does that.

pub(crate) mod evidence;
pub(crate) mod map_fill;
pub(crate) mod map_memory;
pub(crate) mod maps;
mod retired;
pub(crate) mod ring;
mod ring_fill;
pub(crate) mod stacks;
