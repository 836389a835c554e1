//! The last line of a run, and what it is made of.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    Association, Cause, Check, Context, Grade, Operation, Source, Workload, WorkloadErrors,
};

/// Stalls of one context on one device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StallSummary {
    /// Why they waited.
    pub context: Context,
    /// The device, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The file system, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fs: Option<String>,
    /// How many.
    pub count: u64,
    /// Their sum in ns.
    pub total_ns: u64,
    /// Median in ns, interpolated within a power-of-two bucket, like the other quantiles.
    pub p50_ns: u64,
    /// 90th percentile in ns.
    pub p90_ns: u64,
    /// 99th percentile in ns.
    pub p99_ns: u64,
    /// The longest in ns, exact.
    pub max_ns: u64,
    /// How many in each bucket: up to 1 µs, up to 2 µs, up to 4 µs and so on, without the empty ones
    /// at the end. With 28 of them the last one has no bound.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub buckets: Vec<u64>,
}

/// The last line of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// From attached to detached, in ns.
    pub elapsed_ns: u64,
    /// Lines by type, this one not counted.
    pub counts: BTreeMap<String, u64>,
    /// Every stall there was, streamed or not.
    pub stalls: Vec<StallSummary>,
    /// Every stall there was, as one number.
    pub stalls_total: u64,
    /// Every unstable write there was, streamed or not.
    #[serde(default)]
    pub unstable_writes: Vec<UnstableSummary>,
    /// Those of them that harm nobody, so counted but not streamed without `--harmless`.
    #[serde(default)]
    pub unstable_writes_unstreamed: u64,
    /// Every integrity failure there was, streamed or not.
    #[serde(default)]
    pub integrity_errors: Vec<IntegritySummary>,
    /// Every integrity failure there was, as one number.
    #[serde(default)]
    pub integrity_errors_total: u64,
    /// What caused them, as far as they were streamed.
    #[serde(default)]
    pub verdicts: Vec<VerdictSummary>,
    /// How stalls and integrity errors go together: of all devices, then of each that has errors.
    /// Empty if there was no error.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub associations: Vec<Association>,
    /// Those shorter than `--min-latency`, so counted but not streamed.
    pub stalls_below_threshold: u64,
    /// Waits whose folio was written back before the task had to stop running: no stall.
    pub waits_without_sleep: u64,
    /// Times that a waiter was woken and found its folio under writeback again: still one stall.
    /// With `stalls_total`, `waits_without_sleep` and `waits_unfinished` this adds up to every time
    /// that the wait tracepoint fired.
    pub waits_repeated: u64,
    /// Waits that were not over when the run was: no stall of this run.
    pub waits_unfinished: u64,
    /// Lines that the ring buffer had no room for.
    pub events_lost: u64,
    /// Records that could not be decoded.
    pub records_malformed: u64,
    /// What kernel maps had no room for, by kind; not one stall is missing from `stalls` for it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub map_failures: BTreeMap<String, u64>,
    /// Runs that a probe missed, by function.
    pub probe_runs_missed: BTreeMap<String, u64>,
    /// The agent's own CPU time in ns.
    pub agent_cpu_ns: u64,
    /// CPU time of the eBPF programs in ns; 0 where the kernel was not to time them.
    pub bpf_cpu_ns: u64,
    /// Totals of the paired workload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<Box<Workload>>,
    /// Whether this is made from the lines of a recording that has no end of its own: what was not
    /// streamed is not counted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub incomplete: bool,
    /// What the paired workload was refused, beside the integrity errors of the same time; of those
    /// profiles in which anything failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workload_errors: Vec<WorkloadErrors>,
}

/// Unstable writes of one context and grade on one device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnstableSummary {
    /// `write_begin` or `page_mkwrite`.
    pub context: Context,
    /// What they mean.
    pub grade: Grade,
    /// The device, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The file system, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fs: Option<String>,
    /// How many.
    pub count: u64,
}

/// Integrity failures of one kind on one device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntegritySummary {
    /// The device, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// What the requests wanted.
    pub op: Operation,
    /// Which check failed.
    pub check: Check,
    /// Who noticed.
    pub source: Source,
    /// How many.
    pub count: u64,
}

/// Verdicts of one cause on one device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictSummary {
    /// The device, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// What caused the failures.
    pub cause: Cause,
    /// How many.
    pub count: u64,
}
