#![doc = include_str!("rules.md")]

mod error;
mod error_context;
mod event_index;
mod explain;
mod history;
mod moments;
mod rules;
pub mod tally;
mod topics;

use std::{collections::VecDeque, time::Duration};

use self::{
    error::PendingError,
    error_context::ErrorContext,
    explain::explain,
    history::History,
    moments::Moment,
    rules::{confidence, rule},
};
use crate::event::{Context, Event, Line, Verdict};

/// Lines after an error that its verdict rests on, at most this long after it.
const AFTER: Duration = Duration::from_secs(1);

/// How far the correlator looks, and how much it remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long before an error what happened may have to do with it (`--window`).
    pub window: Duration,
    /// How much later than younger lines a line may come without changing a verdict.
    pub slack: Duration,
    /// How many events of each kind are remembered at once, and four times as many as errors that
    /// wait for their verdict.
    pub max_events: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { window: Duration::from_secs(5), slack: Duration::from_secs(1), max_events: 65_536 }
    }
}

impl Limits {
    fn window_ns(&self) -> u64 {
        ns(self.window)
    }

    fn after_ns(&self) -> u64 {
        ns(self.window.min(AFTER))
    }

    /// From an error until its verdict is due.
    fn patience_ns(&self) -> u64 {
        self.after_ns().saturating_add(ns(self.slack))
    }
}

fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Gives a verdict for each integrity error.
#[derive(Debug)]
pub struct Correlator {
    limits: Limits,
    /// The youngest time that was seen.
    now_ns: u64,
    memory: History,
    /// In the order of time.
    waiting: VecDeque<PendingError>,
}

impl Correlator {
    /// Has seen nothing.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, now_ns: 0, memory: History::new(&limits), waiting: VecDeque::new() }
    }

    /// Takes a line, and gives the verdicts that are due now, the oldest error's first. It passes
    /// over verdicts and summaries.
    pub fn observe(&mut self, line: &Line) -> Vec<Verdict> {
        let (time_ns, seq) = (line.time.unix_ns(), line.seq);
        match &line.event {
            Event::Start(start) => self.memory.start(seq, start),
            // These are written when they are noticed, not when they happened, so the clock does
            // not follow them: events that are older may still be in the ring.
            Event::Lost(lost) => self.memory.lost(time_ns, seq, lost),
            Event::Workload(workload) => self.memory.workload(time_ns, seq, workload),
            Event::Stall(stall) => {
                let due = self.advance(time_ns);
                self.memory.stall(Moment { time_ns, seq, store: false }, stall);
                return due;
            }
            Event::UnstableWrite(write) => {
                let due = self.advance(time_ns);
                let store = write.context == Context::PageMkwrite;
                self.memory.rewrite(Moment { time_ns, seq, store }, write);
                return due;
            }
            Event::Integrity(error) => {
                let mut due = self.advance(time_ns);
                let moment = Moment { time_ns, seq, store: false };
                let error = PendingError::new(moment, error, &mut self.memory.disks);
                self.memory.error(&error);
                let at = self.waiting.partition_point(|other| other.moment <= moment);
                self.waiting.insert(at, error);
                if self.waiting.len() > (self.limits.max_events / 4).max(1) {
                    due.extend(self.judge_oldest(true));
                }
                return due;
            }
            Event::Verdict(_) | Event::Summary(_) => {}
        }
        Vec::new()
    }

    /// Gives the verdicts that are due because every event up to `now_ns` has been observed.
    pub fn settle(&mut self, now_ns: u64) -> Vec<Verdict> {
        self.advance(now_ns.max(self.now_ns))
    }

    /// Gives the verdicts that are left.
    pub fn finish(&mut self) -> Vec<Verdict> {
        let mut due = Vec::new();
        while let Some(verdict) = self.judge_oldest(false) {
            due.push(verdict);
        }
        due
    }

    /// Goes on to a time, and judges what is due by then.
    fn advance(&mut self, time_ns: u64) -> Vec<Verdict> {
        let patience = self.limits.patience_ns();
        let reach = patience.saturating_add(self.limits.window_ns());
        if time_ns.saturating_add(reach) < self.now_ns {
            let due = self.finish();
            self.memory.restart(time_ns);
            self.now_ns = time_ns;
            return due;
        }
        self.now_ns = self.now_ns.max(time_ns);
        let mut due = Vec::new();
        while let Some(oldest) = self.waiting.front()
            && oldest.moment.time_ns.saturating_add(patience) <= self.now_ns
        {
            due.extend(self.judge_oldest(false));
        }
        self.memory.prune(self.now_ns.saturating_sub(reach));
        due
    }

    /// The verdict on the error that waits longest; before its time if `hurried`.
    fn judge_oldest(&mut self, hurried: bool) -> Option<Verdict> {
        let error = self.waiting.pop_front()?;
        let from_ns = error.moment.time_ns.saturating_sub(self.limits.window_ns());
        let to_ns = error.moment.time_ns.saturating_add(self.limits.after_ns());
        Some(verdict(ErrorContext::look(&self.memory, error, (from_ns, to_ns), hurried)))
    }
}

/// Applies the rules to what was found around an error.
fn verdict(context: ErrorContext) -> Verdict {
    let rule = rule(&context.findings);
    let [stalls_same_page, stalls_same_file, stalls_same_device] = context.stalls;
    Verdict {
        integrity_seq: context.error.moment.seq,
        cause: rule.says().0,
        confidence: f64::from(confidence(rule, &context.findings)) / 100.0,
        explanation: explain(&context, rule),
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
