//! The last line of a run: its totals.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    Association, Cause, Check, Context, Grade, Operation, Output, Source, Waiting, Workload,
    WorkloadErrors,
};

/// Stalls of one context on one device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StallSummary {
    /// Why the tasks waited.
    pub context: Context,
    /// The device, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The file system, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fs: Option<String>,
    /// Number of them.
    pub count: u64,
    /// Sum of their durations in ns.
    pub total_ns: u64,
    /// Median in ns. Quantiles are interpolated within a power-of-two bucket.
    pub p50_ns: u64,
    /// 90th percentile in ns.
    pub p90_ns: u64,
    /// 99th percentile in ns.
    pub p99_ns: u64,
    /// Longest duration in ns, exact.
    pub max_ns: u64,
    /// Number in each bucket: up to 1 µs, up to 2 µs, up to 4 µs and so on, without empty buckets at
    /// the end. The 28th bucket has no upper bound.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub buckets: Vec<u64>,
}

/// Waits that the filters left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitsFiltered {
    /// Which stalls the filters select, as in `--pid 4711 and its descendants`.
    pub scope: String,
    /// Number of times that the wait tracepoint fired for other tasks.
    pub tasks: u64,
    /// The same for other devices; a wait that slept counts once.
    pub devices: u64,
}

/// The totals of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Time from attaching to detaching, in ns.
    pub elapsed_ns: u64,
    /// Number of lines by type, without this line.
    pub counts: BTreeMap<String, u64>,
    /// All stalls, streamed or not.
    pub stalls: Vec<StallSummary>,
    /// Number of all stalls.
    pub stalls_total: u64,
    /// All unstable writes, streamed or not.
    #[serde(default)]
    pub unstable_writes: Vec<UnstableSummary>,
    /// Number of harmless unstable writes, which are not streamed without `--harmless`.
    #[serde(default)]
    pub unstable_writes_unstreamed: u64,
    /// All integrity errors, streamed or not.
    #[serde(default)]
    pub integrity_errors: Vec<IntegritySummary>,
    /// Number of all integrity errors.
    #[serde(default)]
    pub integrity_errors_total: u64,
    /// Integrity errors whose data and protection information were not copied, or not all: too many at once.
    #[serde(default)]
    pub evidence_skipped: u64,
    /// Verdicts on the streamed integrity errors.
    #[serde(default)]
    pub verdicts: Vec<VerdictSummary>,
    /// Associations of stalls and integrity errors: of all disks together, then of each disk with
    /// errors. Empty without errors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub associations: Vec<Association>,
    /// Number of stalls shorter than `--min-latency`, which are not streamed.
    pub stalls_below_threshold: u64,
    /// Waits whose writeback ended before the task slept: not a stall.
    pub waits_without_sleep: u64,
    /// Number of times that a waiter woke up and found its folio under writeback again: still the
    /// same stall. The sum of this, `stalls_total`, `waits_without_sleep`, `waits_unfinished` and
    /// `waits_filtered` is the number of times that the wait tracepoint fired.
    pub waits_repeated: u64,
    /// Waits that had not ended at the end of the run: not a stall of this run.
    pub waits_unfinished: u64,
    /// Those of them that had lasted longest, at most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<Waiting>,
    /// Waits that the filters left out; absent without filters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_filtered: Option<WaitsFiltered>,
    /// Events that the ring buffer dropped.
    pub events_lost: u64,
    /// Lines of the run that an output lacks, by output.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs_lost: BTreeMap<Output, u64>,
    /// Records that could not be decoded.
    pub records_malformed: u64,
    /// Failed insertions into kernel maps by kind. `stalls` is complete nevertheless.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub map_failures: BTreeMap<String, u64>,
    /// Runs that a probe missed, by function.
    pub probe_runs_missed: BTreeMap<String, u64>,
    /// CPU time of the agent in ns.
    pub agent_cpu_ns: u64,
    /// CPU time of the eBPF programs in ns; 0 if BPF run-time statistics were disabled.
    pub bpf_cpu_ns: u64,
    /// Totals of the paired workload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<Box<Workload>>,
    /// Whether the totals are computed from the lines of a recording without a summary: they count
    /// only streamed events.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub incomplete: bool,
    /// Failed calls of the paired workload with the integrity errors of the same time, for each
    /// profile with failed calls or integrity errors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workload_errors: Vec<WorkloadErrors>,
}

/// Unstable writes of one context and grade on one device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnstableSummary {
    /// `write_begin` or `page_mkwrite`.
    pub context: Context,
    /// Their significance.
    pub grade: Grade,
    /// The device, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The file system, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fs: Option<String>,
    /// Number of them.
    pub count: u64,
}

/// Integrity errors of one kind on one device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntegritySummary {
    /// The device, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The operation of the requests.
    pub op: Operation,
    /// The check that failed.
    pub check: Check,
    /// The component that detected them.
    pub source: Source,
    /// Number of them.
    pub count: u64,
}

/// Verdicts of one cause on one device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictSummary {
    /// The device, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The cause of the errors.
    pub cause: Cause,
    /// Number of them.
    pub count: u64,
}
