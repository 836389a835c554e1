//! The workload's own count of what failed, set against the integrity errors of the same time.
//!
//! A failed check of protection information reaches the writer as `EILSEQ` (from ext4 on 5.10 as
//! `EIO`) of the call that waited for the write. With direct I/O that is one call, and the two counts
//! agree. Through the page cache it is the next sync of every open file of it (`errseq_t`,
//! lib/errseq.c): with 64 workers one error refuses up to 64 calls. Calls that are refused while
//! nothing failed were refused for another reason.

use std::collections::VecDeque;

use crate::{
    event::{
        ErrorInterval, Event, Failed, IntegrityError, Line, Workload, WorkloadErrors, WorkloadState,
    },
    units::Timestamp,
};

/// Intervals of one profile that are kept apart; past that two become one.
const MOST: usize = 4096;

/// Errors that are kept for a workload whose first word is still on its way.
const MOST_UNCLAIMED: usize = 1024;

/// Takes the lines of a stream, and pairs those of the workload with those of integrity errors.
#[derive(Debug, Default)]
pub struct Pairing {
    profiles: Vec<Profile>,
    /// Those of no workload so far.
    unclaimed: VecDeque<Mark>,
}

/// What of an integrity error tells whose it is.
#[derive(Debug)]
struct Mark {
    time: Timestamp,
    inos: Vec<u64>,
    pid: Option<u32>,
}

impl Mark {
    fn of(time: Timestamp, error: &IntegrityError) -> Self {
        let mut inos: Vec<_> = error.pages.iter().filter_map(|page| page.ino).collect();
        inos.sort_unstable();
        inos.dedup();
        Self { time, inos, pid: error.pid }
    }
}

#[derive(Debug)]
struct Profile {
    name: String,
    pid: Option<u32>,
    ino: Option<u64>,
    /// What had failed at the end of the last interval.
    failed: Failed,
    /// The last one is open until the workload speaks again; none is once it has finished.
    intervals: Vec<Interval>,
    open: bool,
}

#[derive(Debug)]
struct Interval {
    from: Timestamp,
    /// The same as `from` while it is open.
    to: Timestamp,
    failed: Failed,
    all: u64,
    own: u64,
}

impl Pairing {
    /// Takes the next line. An integrity error may come later than the word of the workload that
    /// ended its interval, and earlier than the one that began it.
    pub fn observe(&mut self, line: &Line) {
        match &line.event {
            Event::Workload(workload) => self.workload(line.time, workload),
            Event::Integrity(error) => self.keep(Mark::of(line.time, error)),
            _ => {}
        }
    }

    /// What was found so far, of those profiles in which anything failed.
    #[must_use]
    pub fn result(&self) -> Vec<WorkloadErrors> {
        let all = self.profiles.iter().map(Profile::result);
        all.filter(|found| !found.failed.is_empty() || found.integrity_errors > 0).collect()
    }

    fn workload(&mut self, time: Timestamp, workload: &Workload) {
        if workload.state == WorkloadState::Started {
            self.profiles.push(Profile {
                name: workload.profile.clone(),
                pid: workload.pid,
                ino: workload.ino,
                failed: Failed::new(),
                intervals: vec![Interval::open(time)],
                open: true,
            });
            for mark in std::mem::take(&mut self.unclaimed) {
                if mark.time >= time {
                    self.keep(mark);
                }
            }
            return;
        }
        let Some(profile) = self.profiles.last_mut().filter(|profile| profile.open) else { return };
        if let Some(last) = profile.intervals.last_mut() {
            last.to = time;
            last.failed = beyond(&workload.failed, &profile.failed);
        }
        profile.failed.clone_from(&workload.failed);
        profile.open = workload.state == WorkloadState::Progress;
        if profile.open {
            profile.intervals.push(Interval::open(time));
        }
        if profile.intervals.len() > MOST {
            profile.halve();
        }
    }

    /// Counts an error, or keeps it for a workload that is to be heard of.
    fn keep(&mut self, mark: Mark) {
        if self.count(&mark).is_some() {
            return;
        }
        if self.unclaimed.len() >= MOST_UNCLAIMED {
            self.unclaimed.pop_front();
        }
        self.unclaimed.push_back(mark);
    }

    /// Counts an error; nothing if it is in no workload's time.
    fn count(&mut self, mark: &Mark) -> Option<()> {
        // Most are of the last profile, and of its last interval.
        let profile = self.profiles.iter_mut().rfind(|profile| profile.began_by(mark.time))?;
        let (own, open) = (profile.is_own(mark), profile.open);
        let interval = profile.intervals.iter_mut().rfind(|it| it.from <= mark.time)?;
        if mark.time > interval.to && !(open && interval.to == interval.from) {
            return None;
        }
        interval.all += 1;
        interval.own += u64::from(own);
        Some(())
    }
}

impl Profile {
    fn began_by(&self, time: Timestamp) -> bool {
        self.intervals.first().is_some_and(|first| first.from <= time)
    }

    fn is_own(&self, mark: &Mark) -> bool {
        let its_file = self.ino.is_some_and(|ino| mark.inos.contains(&ino));
        its_file || (self.pid.is_some() && self.pid == mark.pid)
    }

    /// Makes one of every two intervals; the last, which may be open, stays as it is.
    fn halve(&mut self) {
        let last = self.intervals.pop();
        let mut merged: Vec<Interval> = Vec::with_capacity(self.intervals.len() / 2 + 2);
        for (index, interval) in self.intervals.drain(..).enumerate() {
            match merged.last_mut() {
                Some(before) if index % 2 == 1 => {
                    before.to = interval.to;
                    before.all += interval.all;
                    before.own += interval.own;
                    add(&mut before.failed, &interval.failed);
                }
                _ => merged.push(interval),
            }
        }
        merged.extend(last);
        self.intervals = merged;
    }

    fn result(&self) -> WorkloadErrors {
        let mut failed = Failed::new();
        self.intervals.iter().for_each(|interval| add(&mut failed, &interval.failed));
        let eventful = |interval: &&Interval| !interval.failed.is_empty() || interval.all > 0;
        WorkloadErrors {
            profile: self.name.clone(),
            failed,
            integrity_errors: self.intervals.iter().map(|interval| interval.all).sum(),
            integrity_errors_own: self.intervals.iter().map(|interval| interval.own).sum(),
            intervals: self.intervals.iter().filter(eventful).map(Interval::result).collect(),
        }
    }
}

impl Interval {
    fn open(time: Timestamp) -> Self {
        Self { from: time, to: time, failed: Failed::new(), all: 0, own: 0 }
    }

    fn result(&self) -> ErrorInterval {
        ErrorInterval {
            from: self.from,
            to: self.to,
            failed: self.failed.clone(),
            integrity_errors: self.all,
            integrity_errors_own: self.own,
        }
    }
}

/// What a later count has beyond an earlier one.
#[must_use]
pub fn beyond(later: &Failed, earlier: &Failed) -> Failed {
    let mut more = Failed::new();
    for (call, errors) in later {
        for (name, count) in errors {
            let before = earlier.get(call).and_then(|errors| errors.get(name)).unwrap_or(&0);
            if count > before {
                more.entry(call.clone()).or_default().insert(name.clone(), count - before);
            }
        }
    }
    more
}

fn add(sum: &mut Failed, more: &Failed) {
    for (call, errors) in more {
        let of_call = sum.entry(call.clone()).or_default();
        for (name, count) in errors {
            *of_call.entry(name.clone()).or_default() += count;
        }
    }
}

#[cfg(test)]
#[path = "pairing_tests.rs"]
mod tests;
