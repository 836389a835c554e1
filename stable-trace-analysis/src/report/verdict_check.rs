//! Computes the verdicts of a recording again, and compares them with the recorded ones.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    correlate::{engine::Engine, verdict::Limits},
    event::{Event, Line, Start, Summary, Verdict},
};

/// The limit of verdicts that are kept until their counterpart comes.
const MAX_UNMATCHED: usize = 4096;

/// Computes and compares verdicts.
pub(super) struct VerdictCheck {
    /// A correlation window that overrides the run's.
    window: Option<Duration>,
    engine: Engine,
    /// Whether that window differs from the run's. Then computed verdicts replace the recorded ones.
    pub(super) recomputes: bool,
    recorded_total: u64,
    /// Recorded verdicts without a counterpart, by the sequence number of their error.
    recorded: BTreeMap<u64, Verdict>,
    /// Computed verdicts without a counterpart, by the sequence number of their error.
    computed: BTreeMap<u64, Verdict>,
    /// Verdicts that differ or have no counterpart.
    different: u64,
}

fn engine(window: Option<Duration>) -> Engine {
    let window = window.unwrap_or(Limits::default().window);
    Engine::new(Limits { window, ..Limits::default() })
}

impl VerdictCheck {
    pub(super) fn new(window: Option<Duration>) -> Self {
        Self {
            window,
            engine: engine(window),
            recomputes: false,
            recorded_total: 0,
            recorded: BTreeMap::new(),
            computed: BTreeMap::new(),
            different: 0,
        }
    }

    /// Adds a line. Returns the verdicts that are now due and replace recorded ones.
    pub(super) fn line(&mut self, line: &Line) -> Vec<Verdict> {
        if let Event::Start(start) = &line.event {
            self.start(start);
        }
        let due = self.engine.observe(line);
        if self.recomputes {
            return due;
        }
        for verdict in due {
            self.add_computed(verdict);
        }
        if let Event::Verdict(verdict) = &line.event {
            self.add_recorded(verdict);
        }
        Vec::new()
    }

    fn start(&mut self, start: &Start) {
        let run_window = start.window_ns.map(Duration::from_nanos);
        self.recomputes = self.window.is_some_and(|window| run_window != Some(window));
        self.engine = engine(self.window.or(run_window));
    }

    fn add_recorded(&mut self, verdict: &Verdict) {
        self.recorded_total += 1;
        match self.computed.remove(&verdict.integrity_seq) {
            Some(other) => self.compare(&other, verdict),
            None => self.keep(|check| &mut check.recorded, verdict.clone()),
        }
    }

    fn add_computed(&mut self, verdict: Verdict) {
        match self.recorded.remove(&verdict.integrity_seq) {
            Some(other) => self.compare(&other, &verdict),
            None => self.keep(|check| &mut check.computed, verdict),
        }
    }

    fn keep(&mut self, side: impl Fn(&mut Self) -> &mut BTreeMap<u64, Verdict>, verdict: Verdict) {
        let unmatched = side(self);
        unmatched.insert(verdict.integrity_seq, verdict);
        if unmatched.len() > MAX_UNMATCHED {
            unmatched.pop_first();
            self.different += 1;
        }
    }

    fn compare(&mut self, one: &Verdict, other: &Verdict) {
        if !one.agrees_with(other) {
            self.different += 1;
        }
    }

    /// Returns the verdicts that the recording lacks, and how many of the others differ. Adds the
    /// engine's part of the summary, unless the recorded summary has it.
    pub(super) fn finish(mut self, summary: &mut Summary, ended: bool) -> (Vec<Verdict>, u64) {
        let remaining = self.engine.finish();
        if self.recomputes || !ended {
            self.engine.sum_up(summary);
        }
        if self.recomputes {
            return (remaining, 0);
        }
        for verdict in remaining {
            self.add_computed(verdict);
        }
        let Self { recorded, computed, mut different, recorded_total, .. } = self;
        different += recorded.len() as u64;
        if ended && recorded_total > 0 {
            different += computed.len() as u64;
            return (Vec::new(), different);
        }
        (computed.into_values().collect(), different)
    }
}
