//! What the paired workload was refused, beside the integrity errors of the same time.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::units::Timestamp;

/// Failed calls: by call (`pwrite`, `sync_file_range`, …), then by errno name.
pub type Failed = BTreeMap<String, BTreeMap<String, u64>>;

/// One run of one profile.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadErrors {
    /// `a` to `g`.
    pub profile: String,
    /// What the workload was refused.
    pub failed: Failed,
    /// Integrity errors that were streamed while it ran.
    pub integrity_errors: u64,
    /// Those of them that are about its file, or whose request its process submitted.
    pub integrity_errors_own: u64,
    /// The same by time, from one word of the workload to the next, where there was either.
    pub intervals: Vec<ErrorInterval>,
}

/// A time of a workload in which something failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorInterval {
    /// When it began.
    pub from: Timestamp,
    /// When it ended.
    pub to: Timestamp,
    /// What the workload was refused in it.
    pub failed: Failed,
    /// Integrity errors in it.
    pub integrity_errors: u64,
    /// Those of them that are about the workload's file, or whose request its process submitted.
    pub integrity_errors_own: u64,
}
