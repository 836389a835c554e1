#![doc = include_str!("rules.md")]

mod error;
mod explain;
mod ledger;
mod memory;
mod moments;
mod place;
mod rules;
mod scene;
pub mod tally;
mod topics;

use std::{collections::VecDeque, time::Duration};

use self::{error::Waiting, ledger::Moment, memory::Memory, scene::Scene};
use crate::{
    correlate::time::nanoseconds,
    event::{Context, Event, Line, Verdict},
};

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
    memory: Memory,
    /// In the order of time.
    waiting: VecDeque<Waiting>,
}

impl Correlator {
    /// Has seen nothing.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, now_ns: 0, memory: Memory::new(&limits), waiting: VecDeque::new() }
    }

    /// Takes a line, and gives the verdicts that are due now, the oldest error's first. It passes
    /// over verdicts and summaries, and over lines without a time unless they are errors.
    pub fn observe(&mut self, line: &Line) -> Vec<Verdict> {
        let time = nanoseconds(&line.time);
        let seq = line.seq;
        match (&line.event, time) {
            (Event::Start(start), _) => self.memory.start(seq, start),
            // These are written when they are noticed, not when they happened, so the clock does
            // not follow them: events that are older may still be in the ring.
            (Event::Lost(lost), Some(time)) => self.memory.lost(time, seq, lost),
            (Event::Workload(workload), Some(time)) => self.memory.workload(time, seq, workload),
            (Event::Stall(stall), Some(time_ns)) => {
                let due = self.advance(time_ns);
                self.memory.stall(Moment { time_ns, seq, store: false }, stall);
                return due;
            }
            (Event::UnstableWrite(write), Some(time_ns)) => {
                let due = self.advance(time_ns);
                let store = write.context == Context::PageMkwrite;
                self.memory.rewrite(Moment { time_ns, seq, store }, write);
                return due;
            }
            (Event::Integrity(error), time) => {
                let time_ns = time.unwrap_or(self.now_ns);
                let mut due = self.advance(time_ns);
                let moment = Moment { time_ns, seq, store: false };
                let error = Waiting::new(moment, error, &mut self.memory.disks);
                self.memory.error(&error);
                let at = self.waiting.partition_point(|other| other.moment <= moment);
                self.waiting.insert(at, error);
                if self.waiting.len() > (self.limits.max_events / 4).max(1) {
                    due.extend(self.judge_oldest(true));
                }
                return due;
            }
            _ => {}
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
        Some(Scene::look(&self.memory, error, (from_ns, to_ns), hurried).verdict())
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod stories;
