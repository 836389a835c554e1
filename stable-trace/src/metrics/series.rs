//! Snapshots to metric families: names, labels, and what keeps their number bounded.

mod agent;
mod kernel;

use std::collections::BTreeSet;

use prometheus::proto::MetricFamily;
use stable_trace_analysis::event::{Cause, Check, Context, Grade, Operation, Source};
use stable_trace_common::{
    histogram::{Histogram, HistogramKey},
    integrity::IntegrityKey,
    process::ProcessKey,
    unstable::UnstableKey,
};

use super::{
    bounded_counters::BoundedCounters,
    limits,
    snapshot::{Place, Snapshot},
};

/// What a label says where it is not known.
const UNKNOWN: &str = "unknown";

/// What a label says for all that had no room.
const OTHER: &str = "other";

/// A device and a file system as labels say them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Named {
    device: String,
    fs: String,
}

impl Named {
    fn new(place: &Place) -> Self {
        Self { device: or_unknown(place.device.as_deref()), fs: or_unknown(place.fs.as_deref()) }
    }

    fn other() -> Self {
        Self { device: OTHER.to_owned(), fs: OTHER.to_owned() }
    }
}

fn or_unknown(name: Option<&str>) -> String {
    name.unwrap_or(UNKNOWN).to_owned()
}

type StallLabels = (Context, Named);
type UnstableLabels = (Named, Context, Grade);
type IntegrityLabels = (String, Operation, Check, Source);
type VerdictLabels = (String, Cause);
type WorkloadErrorLabels = (String, String, String);

/// Every series that there is. It lives as long as the agent: a series that was shown stays, and its
/// counter never goes back.
#[derive(Debug)]
pub struct Registry {
    build: Build,
    stalls: BoundedCounters<HistogramKey, StallLabels, Histogram>,
    /// File systems whose series start at 0.
    announced: BTreeSet<Named>,
    processes: BoundedCounters<ProcessKey, (String, Context), u64>,
    /// Names of threads that have series of their own.
    comms: BTreeSet<String>,
    unstable: BoundedCounters<UnstableKey, UnstableLabels, u64>,
    /// How many series of unstable writes started at 0.
    unstable_announced: usize,
    integrity: BoundedCounters<IntegrityKey, IntegrityLabels, u64>,
    verdicts: BoundedCounters<VerdictLabels, VerdictLabels, u64>,
    missed: BoundedCounters<String, String, u64>,
    workload_errors: BoundedCounters<WorkloadErrorLabels, WorkloadErrorLabels, u64>,
}

/// What `stable_trace_build_info` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Build {
    /// Version of stable-trace.
    pub version: String,
    /// The commit that it was built from.
    pub revision: String,
    /// Kernel release, as `uname -r` prints it.
    pub kernel: String,
}

impl Registry {
    /// One without any series yet.
    #[must_use]
    pub fn new(build: Build) -> Self {
        Self {
            build,
            stalls: BoundedCounters::new(limits::STALLS, |(context, _)| (*context, Named::other())),
            announced: BTreeSet::new(),
            // Bounded by `comms`.
            processes: BoundedCounters::new(usize::MAX, Clone::clone),
            comms: BTreeSet::new(),
            unstable: BoundedCounters::new(limits::UNSTABLE, |(_, context, grade)| {
                (Named::other(), *context, *grade)
            }),
            unstable_announced: 0,
            integrity: BoundedCounters::new(limits::INTEGRITY, |(_, op, check, source)| {
                (OTHER.to_owned(), *op, *check, *source)
            }),
            verdicts: BoundedCounters::new(limits::VERDICTS, |(_, cause)| {
                (OTHER.to_owned(), *cause)
            }),
            missed: BoundedCounters::new(limits::MISSED, |_| OTHER.to_owned()),
            workload_errors: BoundedCounters::new(limits::WORKLOAD_ERRORS, |(profile, mode, _)| {
                (profile.clone(), mode.clone(), OTHER.to_owned())
            }),
        }
    }

    /// Takes a look at everything and returns every family that has a series, sorted by name. Scrapes
    /// must be taken in the order in which they were made.
    pub fn families(&mut self, snapshot: &Snapshot) -> Vec<MetricFamily> {
        let mut families: Vec<_> =
            self.kernel(snapshot).into_iter().chain(self.agent(snapshot)).flatten().collect();
        families.sort_by(|one, other| one.name().cmp(other.name()));
        families
    }
}

#[cfg(test)]
mod tests;
