//! Progress of the paired workload.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::workload_errors::{FailedCalls, add_counts, add_failed};

/// The state of a workload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkloadState {
    /// All workers have reached the start barrier, which opens now.
    #[default]
    Started,
    /// It runs; the numbers are totals so far.
    Progress,
    /// It ended; the numbers are final.
    Finished,
}

/// The totals of the paired workload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// Its state.
    pub state: WorkloadState,
    /// Its profile: `a` to `g`.
    pub profile: String,
    /// Number of workers.
    pub threads: u32,
    /// Size in bytes of the file that all workers rewrite.
    pub file_size: u64,
    /// Number of writes and stores so far, each with its sync.
    pub operations: u64,
    /// Bytes written by them.
    pub bytes: u64,
    /// Number of failed calls by errno name.
    pub errors: BTreeMap<String, u64>,
    /// Totals by mode (`write`, `mmap`), for the modes of the profile.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub modes: BTreeMap<String, ModeCount>,
    /// Failed calls by call (`pwrite`, `sync_file_range`, `fsync`, `msync`, `store`) and errno name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub failed: FailedCalls,
    /// Time in ns since the start barrier opened; at the end, until the last worker ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elapsed_ns: Option<u64>,
    /// Its process id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Inode of the file; absent for a block device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ino: Option<u64>,
}

/// The totals of the workers of one mode.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModeCount {
    /// Number of writes or stores so far, each with its sync.
    pub operations: u64,
    /// Bytes written by them.
    pub bytes: u64,
    /// Number of failed calls by errno name.
    pub errors: BTreeMap<String, u64>,
}

impl ModeCount {
    /// Adds the totals of `other`.
    pub fn add(&mut self, other: &Self) {
        self.operations += other.operations;
        self.bytes += other.bytes;
        add_counts(&mut self.errors, &other.errors);
    }
}

impl Workload {
    /// The sum of the totals of several profiles; `None` without any.
    pub fn sum(workloads: &[Self]) -> Option<Self> {
        let (first, rest) = workloads.split_first()?;
        let mut sum = first.clone();
        for workload in rest {
            sum.profile = format!("{},{}", sum.profile, workload.profile);
            sum.operations += workload.operations;
            sum.bytes += workload.bytes;
            add_counts(&mut sum.errors, &workload.errors);
            for (mode, count) in &workload.modes {
                sum.modes.entry(mode.clone()).or_default().add(count);
            }
            add_failed(&mut sum.failed, &workload.failed);
            sum.elapsed_ns =
                sum.elapsed_ns.zip(workload.elapsed_ns).map(|(so_far, more)| so_far + more);
            // Each profile has its own file.
            sum.ino = None;
        }
        Some(sum)
    }
}
