//! Everything that is remembered of the stream.

use std::collections::BTreeMap;

use hashbrown::HashMap;

use super::{Limits, error::PendingError, event_index::EventIndex, moments::Moment, topics::Topic};
use crate::{
    correlate::disks::{Disk, Disks, MAX_NAMES},
    event::{Group, Lost, Operation, Source, Stall, Start, UnstableWrite, Workload},
};

/// Lines of `lost`, and of `workload`, that are remembered at once.
const MAX_LINES: usize = 1024;

/// How long before a `lost` line the loss may be, if the line does not say.
const LOSS_WITHIN_NS: u64 = 1_000_000_000;

/// What the start said of a disk.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// Whether it asked for stable pages.
    pub stable: bool,
    /// Whether it checks what it is sent.
    pub checks: bool,
    /// Whether the run watches its pages (`--device`).
    pub watched: bool,
}

/// What is remembered.
#[derive(Debug)]
pub struct History {
    /// Disks by name.
    pub disks: Disks,
    /// What the start said of them.
    pub asked: HashMap<Disk, Asked>,
    /// `seq` of the start.
    pub start: Option<u64>,
    /// Whether the probes see every writer.
    pub watched: bool,
    /// Stalls.
    pub stalls: EventIndex,
    /// Unstable writes.
    pub rewrites: EventIndex,
    /// Integrity errors.
    pub errors: EventIndex,
    /// Losses by when they were noticed: since when they may have happened.
    lost: BTreeMap<(u64, u64), u64>,
    lost_forgotten_until: Option<u64>,
    /// Workload lines: calls that failed for want of integrity so far.
    workloads: BTreeMap<(u64, u64), u64>,
}

impl History {
    /// Remembers nothing yet.
    pub fn new(limits: &Limits) -> Self {
        let ledger = || EventIndex::new(limits.max_events);
        Self {
            disks: Disks::default(),
            asked: HashMap::new(),
            start: None,
            watched: false,
            stalls: ledger(),
            rewrites: ledger(),
            errors: ledger(),
            lost: BTreeMap::new(),
            lost_forgotten_until: None,
            workloads: BTreeMap::new(),
        }
    }

    /// Takes what the start says of devices and probes.
    pub fn start(&mut self, seq: u64, start: &Start) {
        self.start = Some(seq);
        let sees = |group| start.probes.iter().any(|probe| probe.group == group && probe.attached);
        self.watched = sees(Group::WriteBegin) && sees(Group::PageMkwrite) && !start.filtered;
        self.asked.clear();
        for device in start.devices.iter().take(MAX_NAMES) {
            if let Some(disk) = self.disks.of(&device.device) {
                let asked = Asked {
                    stable: device.stable_writes,
                    checks: device.integrity.is_some(),
                    watched: start.only_devices.is_empty()
                        || start.only_devices.contains(&device.dev),
                };
                self.asked.insert(disk, asked);
            }
        }
    }

    /// Takes a stall.
    pub fn stall(&mut self, moment: Moment, stall: &Stall) {
        let file = stall.dev.map(|dev| (dev, stall.ino));
        let disk = stall.device.as_deref().and_then(|device| self.disks.of(device));
        let page = file.map(|file| Topic::Page((file, stall.index)));
        self.stalls.add(moment, [page, file.map(Topic::File), disk.map(Topic::Disk)]);
    }

    /// Takes an unstable write.
    pub fn rewrite(&mut self, moment: Moment, write: &UnstableWrite) {
        let file = write.dev.map(|dev| (dev, write.ino));
        let page = file.map(|file| Topic::Page((file, write.index)));
        self.rewrites.add(moment, [page, file.map(Topic::File), None]);
    }

    /// Takes an error, for those to come and those that wait.
    pub fn error(&mut self, error: &PendingError) {
        let sector = error.disk.map(|disk| (disk, error.sector));
        let by_disk = error.op == Operation::Read && error.source != Source::Verify;
        let bad = sector.filter(|_| by_disk);
        self.errors.add(
            error.moment,
            [
                sector.map(|(disk, sector)| Topic::Sector(disk, sector)),
                bad.map(|(disk, sector)| Topic::BadSector(disk, sector)),
                None,
            ],
        );
    }

    /// Takes a loss.
    pub fn lost(&mut self, time_ns: u64, seq: u64, lost: &Lost) {
        let since = time_ns.saturating_sub(lost.within_ns.unwrap_or(LOSS_WITHIN_NS));
        self.lost.insert((time_ns, seq), since);
        if self.lost.len() > MAX_LINES
            && let Some(((left, _), _)) = self.lost.pop_first()
        {
            self.lost_forgotten_until = self.lost_forgotten_until.max(Some(left));
        }
    }

    /// Takes what the workload says of failed calls.
    pub fn workload(&mut self, time_ns: u64, seq: u64, workload: &Workload) {
        let failed = ["EILSEQ", "EIO"].iter().filter_map(|errno| workload.errors.get(*errno));
        self.workloads
            .insert((time_ns, seq), failed.fold(0, |sum, count| sum.saturating_add(*count)));
        if self.workloads.len() > MAX_LINES {
            self.workloads.pop_first();
        }
    }

    /// The losses that may have happened from one time to another, by `seq`; true if there were
    /// more than are remembered.
    pub fn losses(&self, from_ns: u64, to_ns: u64) -> (Vec<u64>, bool) {
        let noticed = self.lost.range((from_ns, 0)..);
        let within = noticed.filter(|(_, since)| **since <= to_ns);
        let forgotten = self.lost_forgotten_until.is_some_and(|until| until >= from_ns);
        (within.map(|((_, seq), _)| *seq).collect(), forgotten)
    }

    /// The first line from one time to another in which the workload has failed more often than in
    /// the line before.
    pub fn workload_failed(&self, from_ns: u64, to_ns: u64) -> Option<u64> {
        let before = self.workloads.range(..(from_ns, 0)).next_back();
        let mut failed = before.map_or(0, |(_, failed)| *failed);
        for ((_, seq), now) in self.workloads.range((from_ns, 0)..=(to_ns, u64::MAX)) {
            if *now > failed {
                return Some(*seq);
            }
            failed = *now;
        }
        None
    }

    /// Forgets what happened before a time that nobody will ask about any more.
    pub fn prune(&mut self, before_ns: u64) {
        for ledger in [&mut self.stalls, &mut self.rewrites, &mut self.errors] {
            ledger.prune(before_ns);
        }
        while self.lost.first_key_value().is_some_and(|((time, _), _)| *time < before_ns) {
            self.lost.pop_first();
        }
        // The last one before stays: the next is compared with it.
        while self.workloads.keys().nth(1).is_some_and(|(time, _)| *time < before_ns) {
            self.workloads.pop_first();
        }
    }

    /// Begins anew at a time: the clock was set.
    pub fn restart(&mut self, now_ns: u64) {
        for ledger in [&mut self.stalls, &mut self.rewrites, &mut self.errors] {
            ledger.restart(now_ns);
        }
        self.lost.clear();
        self.lost_forgotten_until = None;
        self.workloads.clear();
    }
}
