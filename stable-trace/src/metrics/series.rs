//! Turns snapshots into metric families with a bounded number of series.

mod agent;
mod kernel;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use prometheus::proto::MetricFamily;
use stable_trace_analysis::{
    event::{Cause, Check, Context, Grade, Operation, ProofKind, Source},
    sink::format::sanitize,
};
use stable_trace_common::{
    histogram::{Histogram, HistogramKey},
    integrity::IntegrityKey,
    process::ProcessKey,
    unstable::UnstableKey,
};

use super::{
    bounded_counters::BoundedCounters,
    limits,
    snapshot::{DeviceFs, Snapshot},
};

/// The label value where the device or file system is not known.
const UNKNOWN: &str = "unknown";

/// The label value of series beyond a limit.
const OTHER: &str = "other";

/// The values of the labels `device` and `fs`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct DeviceFsLabels {
    device: String,
    fs: String,
}

impl DeviceFsLabels {
    fn new(on: &DeviceFs) -> Self {
        Self { device: or_unknown(on.device.as_deref()), fs: or_unknown(on.fs.as_deref()) }
    }

    fn other() -> Self {
        Self { device: OTHER.to_owned(), fs: OTHER.to_owned() }
    }
}

/// A name as a label. Dashboards show labels, so control characters are written as in all other output.
fn or_unknown(name: Option<&str>) -> String {
    sanitize(name.unwrap_or(UNKNOWN))
}

/// The labels `comm` and, on request, `cgroup`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct ProcessLabels {
    comm: String,
    cgroup: Option<String>,
}

impl ProcessLabels {
    /// Those of all that have no series of their own. `like`: others of the same snapshot.
    fn other(like: &Self) -> Self {
        Self { comm: OTHER.to_owned(), cgroup: like.cgroup.as_ref().map(|_| OTHER.to_owned()) }
    }
}

type StallLabels = (Context, DeviceFsLabels);
type UnstableLabels = (DeviceFsLabels, Context, Grade);
type IntegrityLabels = (String, Operation, Check, Source);
type VerdictLabels = (String, Cause);
type ProofLabels = (String, ProofKind);
type WorkloadErrorLabels = (String, String, String);

/// All series. It lives as long as the endpoint. A counter never decreases; series of what is gone or idle
/// end when others need their place, and their counts move to `other`.
#[derive(Debug)]
pub(super) struct Registry {
    build: Build,
    stalls: BoundedCounters<HistogramKey, StallLabels, Histogram>,
    /// Mounted file systems whose series were declared at 0.
    declared: BTreeSet<DeviceFsLabels>,
    processes: BoundedCounters<ProcessKey, (ProcessLabels, Context), u64>,
    /// Labels of processes with series of their own, and when they last stalled, since the start of the run.
    stalled: BTreeMap<ProcessLabels, Duration>,
    unstable: BoundedCounters<UnstableKey, UnstableLabels, u64>,
    /// Series of unstable writes of mounted file systems that were declared at 0.
    unstable_declared: BTreeSet<UnstableLabels>,
    integrity: BoundedCounters<IntegrityKey, IntegrityLabels, u64>,
    verdicts: BoundedCounters<VerdictLabels, VerdictLabels, u64>,
    proofs: BoundedCounters<ProofLabels, ProofLabels, u64>,
    missed: BoundedCounters<String, String, u64>,
    workload_errors: BoundedCounters<WorkloadErrorLabels, WorkloadErrorLabels, u64>,
}

/// The labels of `stable_trace_build_info`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Build {
    /// Version of stable-trace.
    pub version: String,
    /// Commit of the source.
    pub revision: String,
    /// Kernel release, as `uname -r` prints it.
    pub kernel: String,
}

impl Registry {
    pub(super) fn new(build: Build) -> Self {
        Self {
            build,
            stalls: BoundedCounters::new(limits::STALLS, |(context, _)| {
                (*context, DeviceFsLabels::other())
            }),
            declared: BTreeSet::new(),
            // `stalled` bounds it.
            processes: BoundedCounters::new(usize::MAX, |(process, context)| {
                (ProcessLabels::other(process), *context)
            }),
            stalled: BTreeMap::new(),
            unstable: BoundedCounters::new(limits::UNSTABLE, |(_, context, grade)| {
                (DeviceFsLabels::other(), *context, *grade)
            }),
            unstable_declared: BTreeSet::new(),
            integrity: BoundedCounters::new(limits::INTEGRITY, |(_, op, check, source)| {
                (OTHER.to_owned(), *op, *check, *source)
            }),
            verdicts: BoundedCounters::new(limits::VERDICTS, |(_, cause)| {
                (OTHER.to_owned(), *cause)
            }),
            proofs: BoundedCounters::new(limits::PROOFS, |(_, kind)| (OTHER.to_owned(), *kind)),
            missed: BoundedCounters::new(limits::MISSED, |_| OTHER.to_owned()),
            workload_errors: BoundedCounters::new(limits::WORKLOAD_ERRORS, |(profile, mode, _)| {
                (profile.clone(), mode.clone(), OTHER.to_owned())
            }),
        }
    }

    /// Takes a snapshot and returns every family that has a series, sorted by name. Snapshots must be
    /// passed in the order in which they were read.
    pub(super) fn families(&mut self, snapshot: &Snapshot) -> Vec<MetricFamily> {
        let mut families: Vec<_> =
            self.kernel(snapshot).into_iter().chain(self.agent(snapshot)).flatten().collect();
        families.sort_by(|one, other| one.name().cmp(other.name()));
        families
    }
}

#[cfg(test)]
mod tests;
