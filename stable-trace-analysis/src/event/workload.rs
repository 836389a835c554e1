//! What the paired workload says of itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Failed;

/// Where a workload is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkloadState {
    /// Its workers are at the barrier, which opens now.
    #[default]
    Started,
    /// It runs; the numbers are totals so far.
    Progress,
    /// It ended; the numbers are final.
    Finished,
}

/// What the paired workload does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// Where it is in its life.
    pub state: WorkloadState,
    /// `a` to `g`.
    pub profile: String,
    /// Number of workers.
    pub threads: u32,
    /// Bytes of the file that all workers rewrite.
    pub file_size: u64,
    /// Writes and stores so far, each with its sync.
    pub operations: u64,
    /// Bytes that they wrote.
    pub bytes: u64,
    /// Failed calls by errno name.
    pub errors: BTreeMap<String, u64>,
    /// The same by mode, `write` and `mmap`: of those modes that the profile has.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub modes: BTreeMap<String, ModeCount>,
    /// The same by call (`pwrite`, `sync_file_range`, `fsync`, `msync`, `store`), then errno name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub failed: Failed,
    /// Since its workers passed the barrier, in ns; once it has finished, until the last one ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elapsed_ns: Option<u64>,
    /// Its process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Inode of the file, within its file system; absent for a block device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ino: Option<u64>,
}

/// What the workers of one mode did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModeCount {
    /// Writes or stores so far, each with its sync.
    pub operations: u64,
    /// Bytes that they wrote.
    pub bytes: u64,
    /// Failed calls by errno name.
    pub errors: BTreeMap<String, u64>,
}

impl ModeCount {
    /// Adds what another one did.
    pub fn add(&mut self, other: &Self) {
        self.operations += other.operations;
        self.bytes += other.bytes;
        for (errno, count) in &other.errors {
            *self.errors.entry(errno.clone()).or_default() += count;
        }
    }
}

impl Workload {
    /// The totals of several profiles as one; nothing for none.
    #[must_use]
    pub fn sum(workloads: &[Self]) -> Option<Self> {
        let (first, rest) = workloads.split_first()?;
        let mut sum = first.clone();
        for workload in rest {
            sum.profile = format!("{},{}", sum.profile, workload.profile);
            sum.operations += workload.operations;
            sum.bytes += workload.bytes;
            for (errno, count) in &workload.errors {
                *sum.errors.entry(errno.clone()).or_default() += count;
            }
            for (mode, count) in &workload.modes {
                sum.modes.entry(mode.clone()).or_default().add(count);
            }
            for (call, errors) in &workload.failed {
                let of_call = sum.failed.entry(call.clone()).or_default();
                for (errno, count) in errors {
                    *of_call.entry(errno.clone()).or_default() += count;
                }
            }
            sum.elapsed_ns =
                sum.elapsed_ns.zip(workload.elapsed_ns).map(|(so_far, more)| so_far + more);
            // Each profile has a file of its own.
            sum.ino = None;
        }
        Some(sum)
    }
}
