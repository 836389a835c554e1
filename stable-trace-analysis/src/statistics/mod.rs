//! Quantiles of histograms, and ratios of paired measurements.

pub mod paired;
pub mod quantile;
