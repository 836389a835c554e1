//! Failed calls of the paired workload, with the integrity errors of the same time.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::units::Timestamp;

/// Number of failed calls by call (`pwrite`, `sync_file_range`, …) and errno name.
pub type FailedCalls = BTreeMap<String, BTreeMap<String, u64>>;

/// One run of one profile.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadErrors {
    /// Its profile: `a` to `g`.
    pub profile: String,
    /// Failed calls of the workload.
    pub failed: FailedCalls,
    /// Integrity errors that were streamed while it ran.
    pub integrity_errors: u64,
    /// Integrity errors on the workload's file, or of requests that its process submitted.
    pub integrity_errors_own: u64,
    /// The intervals between workload lines that have failed calls or integrity errors.
    pub intervals: Vec<ErrorInterval>,
}

/// The time between two lines of a workload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorInterval {
    /// Start of the interval.
    pub from: Timestamp,
    /// End of the interval.
    pub to: Timestamp,
    /// Failed calls of the workload in it.
    pub failed: FailedCalls,
    /// Integrity errors in it.
    pub integrity_errors: u64,
    /// Integrity errors on the workload's file, or of requests that its process submitted.
    pub integrity_errors_own: u64,
}

pub(super) fn add_counts(sum: &mut BTreeMap<String, u64>, more: &BTreeMap<String, u64>) {
    for (errno, count) in more {
        *sum.entry(errno.clone()).or_default() += count;
    }
}

pub(crate) fn add_failed(sum: &mut FailedCalls, more: &FailedCalls) {
    for (call, errors) in more {
        add_counts(sum.entry(call.clone()).or_default(), errors);
    }
}

/// The failed calls that `later` counts beyond `earlier`, an earlier state of the same counts.
pub(crate) fn failed_since(later: &FailedCalls, earlier: &FailedCalls) -> FailedCalls {
    let mut more = FailedCalls::new();
    for (call, errors) in later {
        for (errno, count) in errors {
            let before = earlier.get(call).and_then(|errors| errors.get(errno)).unwrap_or(&0);
            if count > before {
                more.entry(call.clone()).or_default().insert(errno.clone(), count - before);
            }
        }
    }
    more
}
