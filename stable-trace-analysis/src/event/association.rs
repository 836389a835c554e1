//! How stalls and integrity errors go together.

use serde::{Deserialize, Serialize};

/// Stalls by how long they took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// How many.
    pub stalls: u64,
    /// Median in ns, exact to an eighth, like the other quantile.
    pub p50_ns: u64,
    /// 99th percentile in ns.
    pub p99_ns: u64,
}

/// Streamed stalls in the windows around integrity errors against the streamed stalls elsewhere,
/// on one device or on all.
///
/// An association is not a cause: a disk that is busy stalls more and fails more.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Association {
    /// The disk; absent for all of them together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// A stall is around an error if it ended at most this long before or after it, in ns.
    pub window_ns: u64,
    /// Integrity errors that the windows are around.
    pub integrity_errors: u64,
    /// Stalls in the windows.
    pub around: Latency,
    /// All the others.
    pub elsewhere: Latency,
    /// Whether there is too little of something to compare; the measures below are then absent.
    pub too_few: bool,
    /// What there is too little of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub too_few_reason: Option<String>,
    /// Median around errors divided by the median elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50_ratio: Option<f64>,
    /// 99th percentile around errors divided by that elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_ratio: Option<f64>,
    /// How likely a stall around an error is longer than one elsewhere, a tie counting half: 0.5 if
    /// errors make no difference. It is Mann and Whitney's U divided by the number of pairs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub longer_probability: Option<f64>,
    /// Two-sided p-value of Mann and Whitney's rank test, normal approximation corrected for ties
    /// and continuity. Stalls come in bursts and are not independent, so it is optimistic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p_value: Option<f64>,
    /// Lag at which errors and stalled time correlate most, in ns, within the window: above zero if
    /// the stalls end after the errors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_lag_ns: Option<i64>,
    /// Pearson's correlation at that lag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_correlation: Option<f64>,
}
