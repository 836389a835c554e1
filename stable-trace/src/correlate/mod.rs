//! From events and counts to statements. Pure: no I/O, no kernel.

pub mod pairing;
pub mod quantile;
pub mod tally;
