//! Pairs the failed calls of the workload with the integrity errors of the same time.
//!
//! A failed check of protection information makes the call that waits for the write fail with
//! `EILSEQ` (ext4 on 5.10: `EIO`). With direct I/O that is one call, and the two counts agree.
//! Through the page cache the next sync of each open file description of the file fails (`errseq_t`,
//! lib/errseq.c): with 64 workers one error makes up to 64 calls fail. Calls that fail without an
//! integrity error fail for another reason.

use std::collections::VecDeque;

use crate::{
    event::{
        ErrorInterval, Event, FailedCalls, IntegrityError, Line, Workload, WorkloadErrors,
        WorkloadState, add_failed, failed_since,
    },
    units::Timestamp,
};

/// Maximum number of intervals of a profile; beyond it, pairs of intervals are merged.
const MAX_INTERVALS: usize = 4096;

/// Maximum number of errors kept for a workload whose first line has not arrived yet.
const MAX_UNCLAIMED: usize = 1024;

/// Counts integrity errors by interval of the workload that was running.
#[derive(Debug, Default)]
pub(super) struct Pairing {
    profiles: Vec<Profile>,
    /// Errors outside the time of any known workload.
    unclaimed: VecDeque<ErrorOrigin>,
}

/// The time of an integrity error, and the identities that link it to the workload.
#[derive(Debug)]
struct ErrorOrigin {
    time: Timestamp,
    inos: Vec<u64>,
    pid: Option<u32>,
}

impl ErrorOrigin {
    fn new(time: Timestamp, error: &IntegrityError) -> Self {
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
    /// Failed calls up to the end of the last complete interval.
    failed: FailedCalls,
    /// While `open`, the last interval ends with the next line of the workload.
    intervals: Vec<Interval>,
    open: bool,
}

#[derive(Debug)]
struct Interval {
    from: Timestamp,
    /// Equal to `from` while the interval is open.
    to: Timestamp,
    failed: FailedCalls,
    errors: u64,
    own_errors: u64,
}

impl Pairing {
    /// Takes the next line. An integrity error may arrive after the workload line that ends its
    /// interval, and before the one that begins it.
    pub(super) fn observe(&mut self, line: &Line) {
        match &line.event {
            Event::Workload(workload) => self.workload(line.time, workload),
            Event::Integrity(error) => self.integrity(ErrorOrigin::new(line.time, error)),
            _ => {}
        }
    }

    /// The counts of each profile with failed calls or integrity errors.
    pub(super) fn result(&self) -> Vec<WorkloadErrors> {
        let profiles = self.profiles.iter().map(Profile::result);
        profiles
            .filter(|profile| !profile.failed.is_empty() || profile.integrity_errors > 0)
            .collect()
    }

    fn workload(&mut self, time: Timestamp, workload: &Workload) {
        if workload.state == WorkloadState::Started {
            self.profiles.push(Profile {
                name: workload.profile.clone(),
                pid: workload.pid,
                ino: workload.ino,
                failed: FailedCalls::new(),
                intervals: vec![Interval::open(time)],
                open: true,
            });
            for error in std::mem::take(&mut self.unclaimed) {
                if error.time >= time {
                    self.integrity(error);
                }
            }
            return;
        }
        let Some(profile) = self.profiles.last_mut().filter(|profile| profile.open) else { return };
        if let Some(last) = profile.intervals.last_mut() {
            last.to = time;
            last.failed = failed_since(&workload.failed, &profile.failed);
        }
        profile.failed.clone_from(&workload.failed);
        profile.open = workload.state == WorkloadState::Progress;
        if profile.open {
            profile.intervals.push(Interval::open(time));
        }
        if profile.intervals.len() > MAX_INTERVALS {
            profile.merge_pairs();
        }
    }

    /// Counts an error, or keeps it for a workload whose first line is yet to arrive.
    fn integrity(&mut self, error: ErrorOrigin) {
        if self.count(&error).is_some() {
            return;
        }
        if self.unclaimed.len() >= MAX_UNCLAIMED {
            self.unclaimed.pop_front();
        }
        self.unclaimed.push_back(error);
    }

    /// Counts an error; `None` if no known workload was running at its time.
    fn count(&mut self, error: &ErrorOrigin) -> Option<()> {
        // Most errors belong to the last interval of the last profile.
        let profile = self.profiles.iter_mut().rfind(|profile| profile.began_by(error.time))?;
        let (own, open) = (profile.owns(error), profile.open);
        let interval = profile.intervals.iter_mut().rfind(|it| it.from <= error.time)?;
        if error.time > interval.to && !(open && interval.to == interval.from) {
            return None;
        }
        interval.errors += 1;
        interval.own_errors += u64::from(own);
        Some(())
    }
}

impl Profile {
    fn began_by(&self, time: Timestamp) -> bool {
        self.intervals.first().is_some_and(|first| first.from <= time)
    }

    fn owns(&self, error: &ErrorOrigin) -> bool {
        let same_file = self.ino.is_some_and(|ino| error.inos.contains(&ino));
        same_file || (self.pid.is_some() && self.pid == error.pid)
    }

    /// Merges each two neighbouring intervals, except the last one, which may be open.
    fn merge_pairs(&mut self) {
        let last = self.intervals.pop();
        let mut merged: Vec<Interval> = Vec::with_capacity(self.intervals.len() / 2 + 2);
        for (index, interval) in self.intervals.drain(..).enumerate() {
            match merged.last_mut() {
                Some(before) if index % 2 == 1 => {
                    before.to = interval.to;
                    before.errors += interval.errors;
                    before.own_errors += interval.own_errors;
                    add_failed(&mut before.failed, &interval.failed);
                }
                _ => merged.push(interval),
            }
        }
        merged.extend(last);
        self.intervals = merged;
    }

    fn result(&self) -> WorkloadErrors {
        let mut failed = FailedCalls::new();
        self.intervals.iter().for_each(|interval| add_failed(&mut failed, &interval.failed));
        let eventful = |interval: &&Interval| !interval.failed.is_empty() || interval.errors > 0;
        WorkloadErrors {
            profile: self.name.clone(),
            failed,
            integrity_errors: self.intervals.iter().map(|interval| interval.errors).sum(),
            integrity_errors_own: self.intervals.iter().map(|interval| interval.own_errors).sum(),
            intervals: self.intervals.iter().filter(eventful).map(Interval::result).collect(),
        }
    }
}

impl Interval {
    fn open(time: Timestamp) -> Self {
        Self { from: time, to: time, failed: FailedCalls::new(), errors: 0, own_errors: 0 }
    }

    fn result(&self) -> ErrorInterval {
        ErrorInterval {
            from: self.from,
            to: self.to,
            failed: self.failed.clone(),
            integrity_errors: self.errors,
            integrity_errors_own: self.own_errors,
        }
    }
}

#[cfg(test)]
mod tests;
