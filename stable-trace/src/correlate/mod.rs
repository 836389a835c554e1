//! From events and counts to statements. Pure: no I/O, no kernel.

pub mod quantile;
pub mod tally;
