//! A summary from the lines of a recording that has none of its own.

use std::collections::BTreeMap;

use stable_trace_common::histogram::Histogram;

use crate::{
    correlate::tally::Tally,
    event::{
        Check, Context, Event, Grade, IntegritySummary, Operation, Source, Stall, Summary,
        UnstableSummary, Workload, WorkloadState,
    },
};

type Name = Option<String>;

/// Counts by what the summary has.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    counts: BTreeMap<&'static str, u64>,
    stalls: Vec<Stalls>,
    /// Where the last stall was counted: the next one is often of the same place.
    last: usize,
    unstable: BTreeMap<(Context, Grade, Name, Name), u64>,
    integrity: BTreeMap<(Name, Operation, Check, Source), u64>,
    lost: u64,
    workloads: Vec<Workload>,
    /// The last that was said of a workload that has not finished.
    running: Option<Workload>,
}

/// The stalls of one place.
#[derive(Clone, Debug)]
struct Stalls {
    context: Context,
    device: Name,
    fs: Name,
    histogram: Histogram,
}

impl Stalls {
    fn takes(&self, stall: &Stall) -> bool {
        self.context == stall.context && self.device == stall.device && self.fs == stall.fs
    }
}

impl Totals {
    /// Counts an event.
    pub fn add(&mut self, event: &Event) {
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
                self.workloads.push(workload.clone());
            }
            Event::Workload(workload) => self.running = Some(workload.clone()),
            Event::Lost(lost) => self.lost = self.lost.saturating_add(lost.count),
            // What is said of verdicts is the engine's.
            Event::Start(_) | Event::Verdict(_) | Event::Summary(_) => {}
        }
    }

    fn stall(&mut self, stall: &Stall) {
        // Devices are few, and a look at the names makes no copy of them.
        if !self.stalls.get(self.last).is_some_and(|stalls| stalls.takes(stall)) {
            let known = self.stalls.iter().position(|stalls| stalls.takes(stall));
            self.last = known.unwrap_or_else(|| {
                self.stalls.push(Stalls {
                    context: stall.context,
                    device: stall.device.clone(),
                    fs: stall.fs.clone(),
                    histogram: Histogram::EMPTY,
                });
                self.stalls.len() - 1
            });
        }
        if let Some(stalls) = self.stalls.get_mut(self.last) {
            stalls.histogram.record(stall.duration_ns);
        }
    }

    /// The streamed stalls, by place.
    pub fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for stalls in &self.stalls {
            let place = (stalls.context, stalls.device.clone(), stalls.fs.clone());
            tally.add(place, &stalls.histogram);
        }
        tally
    }

    /// All of it, over so many ns, but for verdicts and associations.
    pub fn summary(&self, elapsed_ns: u64) -> Summary {
        let kinds =
            ["start", "stall", "unstable_write", "integrity", "verdict", "workload", "lost"];
        let count = |kind: &str| self.counts.get(kind).copied().unwrap_or(0);
        let tally = self.tally();
        let workloads: Vec<_> =
            self.workloads.iter().chain(self.running.as_ref()).cloned().collect();
        let unstable = self.unstable.iter();
        let unstable = unstable.map(|((context, grade, device, fs), &count)| UnstableSummary {
            context: *context,
            grade: *grade,
            device: device.clone(),
            fs: fs.clone(),
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
            counts: kinds.map(|kind| (kind.to_owned(), count(kind))).into(),
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
