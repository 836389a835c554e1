//! The values of one scrape, read from the kernel's maps and the agent.

use std::{collections::BTreeMap, time::Duration};

use stable_trace_analysis::event::{
    Cause, Check, Context, Device, Grade, ModeCount, Operation, Output, Probe, ProofKind, Source,
};
use stable_trace_common::{
    histogram::{Histogram, HistogramKey},
    integrity::IntegrityKey,
    process::ProcessKey,
    unstable::UnstableKey,
};

use super::process::ProcessMetrics;
use crate::collect::map_fill::MapFill;

/// Everything that a scrape shows.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// When the values were read, since the probes attached.
    pub uptime: Duration,
    /// Stalls, one entry a histogram of the kernel.
    pub stalls: Vec<Stalls>,
    /// Tasks that wait at this moment.
    pub waiting: Vec<WaitingTask>,
    /// Mounted file systems, whose series start at 0.
    pub mounted: Vec<DeviceFs>,
    /// Stall time by process name.
    pub processes: Vec<ProcessTime>,
    /// Unstable writes.
    pub unstable: Vec<UnstableCount>,
    /// Integrity errors.
    pub integrity: Vec<IntegrityCount>,
    /// Verdicts.
    pub verdicts: Vec<VerdictCount>,
    /// Proofs.
    pub proofs: Vec<ProofCount>,
    /// Block devices.
    pub devices: Vec<Device>,
    /// Probes, attached or not.
    pub probes: Vec<Probe>,
    /// Missed probe runs, by probed function.
    pub missed: BTreeMap<String, u64>,
    /// Events that the agent took from the ring buffer.
    pub events_received: u64,
    /// Records that the full ring buffer dropped.
    pub events_lost: u64,
    /// Lines of the run that each output lacks.
    pub outputs_lost: BTreeMap<Output, u64>,
    /// Integrity errors that a stacked device reported again.
    pub integrity_repeated: u64,
    /// Integrity errors whose data was not copied, or not all.
    pub evidence_skipped: u64,
    /// Kernel stacks that were walked for waits.
    pub stack_walks: u64,
    /// Run time of the eBPF programs; empty where the kernel does not measure it.
    pub programs: Vec<Program>,
    /// Fill of the kernel's maps.
    pub maps: Vec<MapFill>,
    /// Kernel memory of each map in bytes.
    pub map_bytes: BTreeMap<String, u64>,
    /// Operations of the paired workload, by profile and mode.
    pub workload: BTreeMap<(String, String), ModeCount>,
    /// The agent's process.
    pub process: ProcessMetrics,
}

/// A device and a file system type; `None` where unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceFs {
    /// The kernel's name of the device, such as `sda1`.
    pub device: Option<String>,
    /// Such as `ext4`.
    pub fs: Option<String>,
}

/// The stalls of one kernel histogram.
#[derive(Clone, Debug)]
pub struct Stalls {
    /// Key of the kernel's map.
    pub key: HistogramKey,
    /// What the tasks were doing.
    pub context: Context,
    /// Device and file system of the pages.
    pub device_fs: DeviceFs,
    /// Durations.
    pub histogram: Histogram,
}

/// A task that waits.
#[derive(Clone, Debug)]
pub struct WaitingTask {
    /// What it does.
    pub context: Context,
    /// Device and file system of the page.
    pub device_fs: DeviceFs,
    /// For how long it has waited, in ns.
    pub age_ns: u64,
}

/// Stall time of one process name, cgroup and stack.
#[derive(Clone, Debug)]
pub struct ProcessTime {
    /// Key of the kernel's map.
    pub key: ProcessKey,
    /// The process's name; `None` for the sum of names that the full map did not take.
    pub name: Option<String>,
    /// The path of the cgroup, empty if unknown; `None` without `--label cgroup`.
    pub cgroup: Option<String>,
    /// What the task was doing.
    pub context: Context,
    /// Stall time in ns.
    pub sum_ns: u64,
}

/// Unstable writes of one kernel count.
#[derive(Clone, Debug)]
pub struct UnstableCount {
    /// Key of the kernel's map.
    pub key: UnstableKey,
    /// `write_begin` or `page_mkwrite`.
    pub context: Context,
    /// Severity.
    pub grade: Grade,
    /// Device and file system of the pages.
    pub device_fs: DeviceFs,
    /// Number of events.
    pub count: u64,
}

/// Integrity errors of one kernel count.
#[derive(Clone, Debug)]
pub struct IntegrityCount {
    /// Key of the kernel's map.
    pub key: IntegrityKey,
    /// The device; `None` where unknown.
    pub device: Option<String>,
    /// Read or write.
    pub op: Operation,
    /// Which check failed.
    pub check: Check,
    /// The layer that reported the error.
    pub source: Source,
    /// Number of events.
    pub count: u64,
}

/// Verdicts of one cause on one device.
#[derive(Clone, Debug)]
pub struct VerdictCount {
    /// The device; `None` where unknown.
    pub device: Option<String>,
    /// What caused the errors.
    pub cause: Cause,
    /// Number of events.
    pub count: u64,
}

/// Proofs of one kind on one device.
#[derive(Clone, Debug)]
pub struct ProofCount {
    /// The device; `None` where unknown.
    pub device: Option<String>,
    /// What was found.
    pub kind: ProofKind,
    /// Number of events.
    pub count: u64,
}

/// Run time of one eBPF program.
#[derive(Clone, Debug)]
pub struct Program {
    /// Name of the program.
    pub name: String,
    /// Total run time in ns.
    pub run_ns: u64,
    /// Number of runs.
    pub runs: u64,
}
