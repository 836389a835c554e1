//! Associations of stalls and integrity errors.

use serde::{Deserialize, Serialize};

/// The number of stalls in a group, and quantiles of their durations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// Number of stalls.
    pub stalls: u64,
    /// Median in ns. The relative error of both quantiles is at most an eighth.
    pub p50_ns: u64,
    /// 99th percentile in ns.
    pub p99_ns: u64,
}

/// Compares the streamed stalls in the windows around integrity errors with all other streamed
/// stalls, on one disk or on all disks together.
///
/// An association is not a cause: a busy disk stalls more and fails more.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Association {
    /// The disk; absent for all disks together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// A stall is around an error if it ended at most this many ns before or after the error.
    pub window_ns: u64,
    /// Number of integrity errors.
    pub integrity_errors: u64,
    /// Stalls around an error.
    pub around: Latency,
    /// All other stalls.
    pub elsewhere: Latency,
    /// Whether there are too few errors or stalls to compare; the measures below are then absent.
    pub too_few: bool,
    /// Which number is too small.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub too_few_reason: Option<String>,
    /// Median around errors divided by the median elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50_ratio: Option<f64>,
    /// 99th percentile around errors divided by the 99th percentile elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_ratio: Option<f64>,
    /// Probability that a stall around an error is longer than a stall elsewhere, a tie counting
    /// half: 0.5 without any difference. It is the Mann-Whitney U divided by the number of pairs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub longer_probability: Option<f64>,
    /// Two-sided p-value: the share of circular shifts of the errors along the run after which the stalls
    /// around them differ from the others at least as much. It holds for stalls and errors that come in
    /// bursts. Absent if the run is too short, or all stalls are on one side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p_value: Option<f64>,
    /// Lag within the window at which errors and stalled time correlate most, in ns; positive if
    /// the stalls end after the errors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_lag_ns: Option<i64>,
    /// Pearson correlation coefficient at that lag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_correlation: Option<f64>,
}
