//! Quantiles of histograms, and the comparison of paired runs.

pub mod paired;
pub mod quantile;
