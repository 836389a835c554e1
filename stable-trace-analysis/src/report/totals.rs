//! Computes a summary from the lines of a recording that has none.

use std::collections::BTreeMap;

use smol_str::SmolStr;
use stable_trace_common::histogram::Histogram;

use crate::{
    correlate::tally::Tally,
    event::{
        Check, Context, Event, Grade, IntegritySummary, Operation, Source, Stall, Summary,
        UnstableSummary, Workload, WorkloadState,
    },
};

type Name = Option<SmolStr>;

/// Counts events by the keys of a summary.
#[derive(Clone, Debug, Default)]
pub(super) struct Totals {
    counts: BTreeMap<&'static str, u64>,
    stalls: Vec<StallGroup>,
    /// The index of the last stall's group: consecutive stalls often belong to one group.
    last_group: usize,
    unstable: BTreeMap<(Context, Grade, Name, Name), u64>,
    integrity: BTreeMap<(Option<String>, Operation, Check, Source), u64>,
    lost: u64,
    finished: Vec<Workload>,
    /// The last report of a workload that has not finished.
    running: Option<Workload>,
}

/// The stalls of one context, device and file system.
#[derive(Clone, Debug)]
struct StallGroup {
    context: Context,
    device: Name,
    fs: Name,
    histogram: Histogram,
}

impl StallGroup {
    fn contains(&self, stall: &Stall) -> bool {
        self.context == stall.context && self.device == stall.device && self.fs == stall.fs
    }
}

impl Totals {
    pub(super) fn add(&mut self, event: &Event) {
        *self.counts.entry(event.kind()).or_default() += 1;
        match event {
            Event::Stall(stall) => self.stall(stall),
            Event::UnstableWrite(write) => {
                let key = (write.context, write.grade, write.device.clone(), write.fs.clone());
                *self.unstable.entry(key).or_default() += 1;
            }
            Event::Integrity(error) => {
                let key = (error.device.clone(), error.op, error.check, error.source);
                *self.integrity.entry(key).or_default() += 1;
            }
            Event::Workload(workload) if workload.state == WorkloadState::Finished => {
                self.running = None;
                self.finished.push(workload.clone());
            }
            Event::Workload(workload) => self.running = Some(workload.clone()),
            Event::Lost(lost) => self.lost = self.lost.saturating_add(lost.events()),
            // The correlation engine counts verdicts.
            Event::Start(_) | Event::Waiting(_) | Event::Verdict(_) | Event::Summary(_) => {}
        }
    }

    fn stall(&mut self, stall: &Stall) {
        // A linear search: groups are few, and comparing names copies none.
        if !self.stalls.get(self.last_group).is_some_and(|group| group.contains(stall)) {
            let index = self.stalls.iter().position(|group| group.contains(stall));
            self.last_group = index.unwrap_or_else(|| {
                self.stalls.push(StallGroup {
                    context: stall.context,
                    device: stall.device.clone(),
                    fs: stall.fs.clone(),
                    histogram: Histogram::EMPTY,
                });
                self.stalls.len() - 1
            });
        }
        if let Some(group) = self.stalls.get_mut(self.last_group) {
            group.histogram.record(stall.duration_ns);
        }
    }

    /// The streamed stalls by context, device and file system.
    pub(super) fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for group in &self.stalls {
            let key = (group.context, owned(&group.device), owned(&group.fs));
            tally.add(key, &group.histogram);
        }
        tally
    }

    /// The summary, without verdicts and associations.
    pub(super) fn summary(&self, elapsed_ns: u64) -> Summary {
        let count = |kind: &str| self.counts.get(kind).copied().unwrap_or(0);
        let counts = Event::COUNTED_KINDS.map(|kind| (kind.to_owned(), count(kind))).into();
        let tally = self.tally();
        let workloads: Vec<_> =
            self.finished.iter().chain(self.running.as_ref()).cloned().collect();
        let unstable = self.unstable.iter();
        let unstable = unstable.map(|((context, grade, device, fs), &count)| UnstableSummary {
            context: *context,
            grade: *grade,
            device: owned(device),
            fs: owned(fs),
            count,
        });
        let integrity = self.integrity.iter();
        let integrity = integrity.map(|((device, op, check, source), &count)| IntegritySummary {
            device: device.clone(),
            op: *op,
            check: *check,
            source: *source,
            count,
        });
        Summary {
            elapsed_ns,
            counts,
            stalls_total: tally.total(),
            stalls: tally.summaries(),
            unstable_writes: unstable.collect(),
            integrity_errors: integrity.collect(),
            integrity_errors_total: count("integrity"),
            events_lost: self.lost,
            workload: Workload::sum(&workloads).map(Box::new),
            incomplete: true,
            ..Summary::default()
        }
    }
}

/// A name as summaries have it.
fn owned(name: &Name) -> Option<String> {
    name.as_deref().map(str::to_owned)
}
