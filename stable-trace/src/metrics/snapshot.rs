//! What one look at everything found: plain values, as the kernel's maps and the agent have them.

use std::collections::BTreeMap;

use stable_trace_analysis::event::{
    Cause, Check, Context, Device, Grade, ModeCount, Operation, Probe, Source,
};
use stable_trace_common::{
    histogram::{Histogram, HistogramKey},
    integrity::IntegrityKey,
    process::ProcessKey,
    unstable::UnstableKey,
};

use super::own::Own;
use crate::collect::map_fill::MapFill;

/// Everything that a scrape shows.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Stalls by what the kernel counts them by.
    pub stalls: Vec<Stalls>,
    /// File systems that are mounted, so that their series can start at 0.
    pub places: Vec<Place>,
    /// Stalled time by thread name.
    pub processes: Vec<ProcessTime>,
    /// Unstable writes.
    pub unstable: Vec<UnstableCount>,
    /// Integrity errors.
    pub integrity: Vec<IntegrityCount>,
    /// Verdicts.
    pub verdicts: Vec<VerdictCount>,
    /// Block devices.
    pub devices: Vec<Device>,
    /// Probes, attached or not.
    pub probes: Vec<Probe>,
    /// Runs that were missed, by probed function.
    pub missed: BTreeMap<String, u64>,
    /// Records that the agent took from the ring buffer.
    pub events_received: u64,
    /// Records that the ring buffer had no room for.
    pub events_lost: u64,
    /// The programs' own cost; empty where the kernel does not time them.
    pub programs: Vec<Program>,
    /// How full the kernel's maps are.
    pub maps: Vec<MapFill>,
    /// What the paired workload did, by profile and mode.
    pub workload: BTreeMap<(String, String), ModeCount>,
    /// The agent's own process.
    pub own: Own,
}

/// A device and a file system; absent what is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The kernel's name of the device.
    pub device: Option<String>,
    /// Type of the file system.
    pub fs: Option<String>,
}

/// The stalls of one kernel histogram.
#[derive(Clone, Debug)]
pub struct Stalls {
    /// What the kernel knows them by.
    pub key: HistogramKey,
    /// Why they waited.
    pub context: Context,
    /// Where.
    pub place: Place,
    /// How long.
    pub histogram: Histogram,
}

/// Stalled time of one thread name and stack.
#[derive(Clone, Debug)]
pub struct ProcessTime {
    /// What the kernel knows it by.
    pub key: ProcessKey,
    /// The thread's name; absent for what the kernel's map had no room for.
    pub comm: Option<String>,
    /// Why it waited.
    pub context: Context,
    /// How long, in ns.
    pub sum_ns: u64,
}

/// Unstable writes of one kernel count.
#[derive(Clone, Debug)]
pub struct UnstableCount {
    /// What the kernel knows them by.
    pub key: UnstableKey,
    /// `write_begin` or `page_mkwrite`.
    pub context: Context,
    /// What they mean.
    pub grade: Grade,
    /// Where.
    pub place: Place,
    /// How many.
    pub count: u64,
}

/// Integrity errors of one kernel count.
#[derive(Clone, Debug)]
pub struct IntegrityCount {
    /// What the kernel knows them by.
    pub key: IntegrityKey,
    /// Its name, where it is known.
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
#[derive(Clone, Debug)]
pub struct VerdictCount {
    /// The device, where it is known.
    pub device: Option<String>,
    /// What caused the errors.
    pub cause: Cause,
    /// How many.
    pub count: u64,
}

/// What one program costs.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its name.
    pub name: String,
    /// How long it has run, in ns.
    pub run_ns: u64,
    /// How often.
    pub runs: u64,
}
