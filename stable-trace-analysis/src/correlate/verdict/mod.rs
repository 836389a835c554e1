#![doc = include_str!("rules.md")]

mod error_context;
mod event_index;
mod event_refs;
mod explain;
mod history;
mod key_table;
mod pending_error;
mod rules;
pub mod tally;
mod traced_writers;

use std::{collections::VecDeque, time::Duration};

use self::{
    error_context::ErrorContext,
    event_refs::EventRef,
    explain::explain,
    history::History,
    pending_error::PendingError,
    rules::{confidence, first_match},
};
use crate::{
    event::{Context, Event, Line, Verdict},
    units::saturating_ns,
};

/// Maximum time after an error of the lines that its verdict rests on.
const AFTER_ERROR: Duration = Duration::from_secs(1);

/// Bounds of the correlation in time and in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Correlation window before an integrity error (`--window`).
    pub window: Duration,
    /// Lines may be out of order by less than this without an effect on verdicts.
    pub slack: Duration,
    /// Maximum number of events kept of each kind, and four times the maximum number of errors
    /// whose verdict is not due yet.
    pub max_events: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { window: Duration::from_secs(5), slack: Duration::from_secs(1), max_events: 65_536 }
    }
}

impl Limits {
    fn window_ns(&self) -> u64 {
        saturating_ns(self.window)
    }

    fn after_ns(&self) -> u64 {
        saturating_ns(self.window.min(AFTER_ERROR))
    }

    /// Time from an error until its verdict is due.
    fn due_after_ns(&self) -> u64 {
        self.after_ns().saturating_add(saturating_ns(self.slack))
    }

    /// How far back a verdict may look from now: the history is this long.
    fn reach_ns(&self) -> u64 {
        self.due_after_ns().saturating_add(self.window_ns())
    }
}

/// Gives a verdict on each integrity error.
#[derive(Debug)]
pub(super) struct Correlator {
    limits: Limits,
    /// The latest time of any event so far, by the clock of [`Line::instant_ns`].
    now_ns: u64,
    history: History,
    /// Errors whose verdict is not due yet, ordered by time.
    pending: VecDeque<PendingError>,
}

impl Correlator {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, now_ns: 0, history: History::new(&limits), pending: VecDeque::new() }
    }

    /// Takes a line. Returns the verdicts that are due now, the verdict on the oldest error first.
    /// Verdicts and summaries of the stream are ignored.
    pub(super) fn observe(&mut self, line: &Line) -> Vec<Verdict> {
        let (time_ns, seq) = (line.instant_ns(), line.seq);
        match &line.event {
            Event::Start(start) => {
                // Another run, perhaps after another boot.
                let due = self.step_back(time_ns);
                self.history.add_start(seq, start);
                return due;
            }
            // The time of these lines is that of their detection, so it does not advance the clock:
            // the ring buffer may still hold older events.
            Event::Lost(lost) if lost.output.is_none() => {
                self.history.add_loss(time_ns, seq, lost);
            }
            Event::Workload(workload) => self.history.add_workload(time_ns, seq, workload),
            Event::Stall(stall) => {
                let due = self.advance_to(line);
                self.history.add_stall(EventRef { time_ns, seq, store: false }, stall);
                return due;
            }
            Event::UnstableWrite(write) => {
                let due = self.advance_to(line);
                let store = write.context == Context::PageMkwrite;
                self.history.add_rewrite(EventRef { time_ns, seq, store }, write);
                return due;
            }
            Event::Integrity(error) => {
                let mut due = self.advance_to(line);
                let event = EventRef { time_ns, seq, store: false };
                let error = PendingError::new(
                    event,
                    error,
                    &mut self.history.disks,
                    &self.history.traced_writers,
                );
                self.history.add_error(&error);
                let position = self.pending.partition_point(|other| other.event <= event);
                self.pending.insert(position, error);
                if self.pending.len() > (self.limits.max_events / 4).max(1) {
                    due.extend(self.judge_oldest(true));
                }
                return due;
            }
            // The run has seen the lines that an output lacks.
            Event::Lost(_) | Event::Waiting(_) | Event::Verdict(_) | Event::Summary(_) => {}
        }
        Vec::new()
    }

    /// Returns the verdicts that are due if every event up to `now_ns` has been observed.
    pub(super) fn settle(&mut self, now_ns: u64) -> Vec<Verdict> {
        self.advance(now_ns.max(self.now_ns))
    }

    /// Returns the remaining verdicts.
    pub(super) fn finish(&mut self) -> Vec<Verdict> {
        let mut due = Vec::new();
        while let Some(verdict) = self.judge_oldest(false) {
            due.push(verdict);
        }
        due
    }

    /// Advances the clock to a line. A monotonic clock is never set: a line of it that is older is late.
    fn advance_to(&mut self, line: &Line) -> Vec<Verdict> {
        let time_ns = line.instant_ns();
        let mut due = match line.monotonic_ns {
            Some(_) => Vec::new(),
            None => self.step_back(time_ns),
        };
        due.extend(self.advance(time_ns));
        due
    }

    /// If the clock was set back: forgets what was, and returns the verdicts on all errors before it.
    fn step_back(&mut self, time_ns: u64) -> Vec<Verdict> {
        if time_ns.saturating_add(self.limits.reach_ns()) >= self.now_ns {
            return Vec::new();
        }
        let due = self.finish();
        self.history.restart(self.now_ns, time_ns);
        self.now_ns = time_ns;
        due
    }

    /// Advances the clock, and returns the verdicts that are due by then.
    fn advance(&mut self, time_ns: u64) -> Vec<Verdict> {
        let due_after = self.limits.due_after_ns();
        self.now_ns = self.now_ns.max(time_ns);
        let mut due = Vec::new();
        while let Some(oldest) = self.pending.front()
            && oldest.event.time_ns.saturating_add(due_after) <= self.now_ns
        {
            due.extend(self.judge_oldest(false));
        }
        self.history.prune(self.now_ns.saturating_sub(self.limits.reach_ns()));
        due
    }

    /// The verdict on the oldest pending error. `early` means that it is not due yet.
    fn judge_oldest(&mut self, early: bool) -> Option<Verdict> {
        let error = self.pending.pop_front()?;
        let from_ns = error.event.time_ns.saturating_sub(self.limits.window_ns());
        let to_ns = error.event.time_ns.saturating_add(self.limits.after_ns());
        Some(verdict(ErrorContext::collect(&self.history, error, (from_ns, to_ns), early)))
    }
}

/// Applies the rules to the context of an error.
fn verdict(context: ErrorContext) -> Verdict {
    let rule = first_match(&context.input);
    let [stalls_same_page, stalls_same_file, stalls_same_device] = context.stalls;
    Verdict {
        integrity_seq: context.error.event.seq,
        cause: rule.conclusion().0,
        confidence: f64::from(confidence(rule, &context.input)) / 100.0,
        explanation: explain(&context, rule),
        proof: context.error.proof,
        device: context.error.device,
        evidence: context.evidence,
        stalls_same_page,
        stalls_same_file,
        stalls_same_device,
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod scenarios;
