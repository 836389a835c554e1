//! The recent part of the stream, as far as verdicts need it.

use std::collections::BTreeMap;

use hashbrown::HashMap;

use super::{
    Limits,
    event_index::EventIndex,
    event_refs::EventRef,
    key_table::{FileId, Key, PageId},
    pending_error::PendingError,
    traced_writers::TracedWriters,
};
use crate::{
    correlate::disks::{Disk, Disks, MAX_NAMES},
    event::{Lost, Operation, Source, Stall, Start, UnstableWrite, Workload},
};

/// Maximum number of `lost` lines kept, and of `workload` lines.
const MAX_LINES: usize = 1024;

/// How long before a `lost` line events may have been lost, if the line has no `within_ns`.
const LOSS_WITHIN_NS: u64 = 1_000_000_000;

/// Properties of a disk from the `start` line.
#[derive(Clone, Copy, Debug)]
pub(super) struct DiskProperties {
    pub(super) requires_stable_pages: bool,
    pub(super) checks_integrity: bool,
    /// Whether the run traces writes to it: `--device` hides none on a disk that checks integrity, or
    /// on devices above it.
    pub(super) traced: bool,
}

#[derive(Debug)]
pub(super) struct History {
    pub(super) disks: Disks,
    pub(super) disk_properties: HashMap<Disk, DiskProperties>,
    pub(super) start_seq: Option<u64>,
    /// Which writers the probes see.
    pub(super) traced_writers: TracedWriters,
    pub(super) stalls: EventIndex,
    /// Unstable writes.
    pub(super) rewrites: EventIndex,
    pub(super) errors: EventIndex,
    /// For each `lost` line, by time and `seq`: the time since when the events may have been lost.
    losses: BTreeMap<(u64, u64), u64>,
    losses_evicted_until: Option<u64>,
    /// The time of the latest events that were forgotten because the clock was set back.
    forgotten_at: Option<u64>,
    /// For each `workload` line, by time and `seq`: the calls so far that failed with an I/O or
    /// integrity error.
    workload_failures: BTreeMap<(u64, u64), u64>,
}

impl History {
    pub(super) fn new(limits: &Limits) -> Self {
        let index = || EventIndex::new(limits.max_events);
        Self {
            disks: Disks::default(),
            disk_properties: HashMap::new(),
            start_seq: None,
            traced_writers: TracedWriters::default(),
            stalls: index(),
            rewrites: index(),
            errors: index(),
            losses: BTreeMap::new(),
            losses_evicted_until: None,
            forgotten_at: None,
            workload_failures: BTreeMap::new(),
        }
    }

    pub(super) fn add_start(&mut self, seq: u64, start: &Start) {
        self.start_seq = Some(seq);
        self.traced_writers = TracedWriters::of(start);
        self.disk_properties.clear();
        for device in start.devices.iter().take(MAX_NAMES) {
            if let Some(disk) = self.disks.resolve(&device.device) {
                let properties = DiskProperties {
                    requires_stable_pages: device.stable_writes,
                    checks_integrity: device.integrity.is_some(),
                    traced: device.integrity.is_some()
                        || start.only_devices.is_empty()
                        || start.only_devices.contains(&device.dev),
                };
                self.disk_properties.insert(disk, properties);
            }
        }
    }

    pub(super) fn add_stall(&mut self, event: EventRef, stall: &Stall) {
        let file = FileId::new(stall.subvolume_dev, stall.dev, stall.ino);
        let disk = stall.device.as_deref().and_then(|device| self.disks.resolve(device));
        let page = file.map(|file| PageId { file, index: stall.index });
        self.stalls.add(event, [page.map(Key::Page), file.map(Key::File), disk.map(Key::Disk)]);
    }

    pub(super) fn add_rewrite(&mut self, event: EventRef, write: &UnstableWrite) {
        let file = FileId::new(write.subvolume_dev, write.dev, write.ino);
        let page = file.map(|file| PageId { file, index: write.index });
        self.rewrites.add(event, [page.map(Key::Page), file.map(Key::File), None]);
    }

    pub(super) fn add_error(&mut self, error: &PendingError) {
        let sector = error.disk.zip(error.sector);
        let read_by_disk = error.op == Operation::Read && error.source != Source::Verify;
        let bad_sector = sector.filter(|_| read_by_disk);
        self.errors.add(
            error.event,
            [
                sector.map(|(disk, sector)| Key::Sector(disk, sector)),
                bad_sector.map(|(disk, sector)| Key::BadSector(disk, sector)),
                None,
            ],
        );
    }

    pub(super) fn add_loss(&mut self, time_ns: u64, seq: u64, lost: &Lost) {
        let since = time_ns.saturating_sub(lost.within_ns.unwrap_or(LOSS_WITHIN_NS));
        self.losses.insert((time_ns, seq), since);
        if self.losses.len() > MAX_LINES
            && let Some(((evicted, _), _)) = self.losses.pop_first()
        {
            self.losses_evicted_until = self.losses_evicted_until.max(Some(evicted));
        }
    }

    pub(super) fn add_workload(&mut self, time_ns: u64, seq: u64, workload: &Workload) {
        let failed = ["EILSEQ", "EIO"].iter().filter_map(|errno| workload.errors.get(*errno));
        self.workload_failures
            .insert((time_ns, seq), failed.fold(0, |sum, count| sum.saturating_add(*count)));
        if self.workload_failures.len() > MAX_LINES {
            self.workload_failures.pop_first();
        }
    }

    /// The `seq`s of the `lost` lines whose events may belong to a span of time, and whether
    /// further such lines were evicted.
    pub(super) fn losses(&self, from_ns: u64, to_ns: u64) -> (Vec<u64>, bool) {
        let detected = self.losses.range((from_ns, 0)..);
        let in_span = detected.filter(|(_, since)| **since <= to_ns);
        let evicted = self.losses_evicted_until.is_some_and(|until| until >= from_ns)
            || self.forgotten_at.is_some_and(|at| (from_ns..=to_ns).contains(&at));
        (in_span.map(|((_, seq), _)| *seq).collect(), evicted)
    }

    /// The `seq` of the first `workload` line in a span of time whose count of failed calls exceeds
    /// that of the line before.
    pub(super) fn workload_failure(&self, from_ns: u64, to_ns: u64) -> Option<u64> {
        let before = self.workload_failures.range(..(from_ns, 0)).next_back();
        let mut failed = before.map_or(0, |(_, failed)| *failed);
        for ((_, seq), now) in self.workload_failures.range((from_ns, 0)..=(to_ns, u64::MAX)) {
            if *now > failed {
                return Some(*seq);
            }
            failed = *now;
        }
        None
    }

    /// Removes what happened before a time that no later query asks for.
    pub(super) fn prune(&mut self, before_ns: u64) {
        for index in [&mut self.stalls, &mut self.rewrites, &mut self.errors] {
            index.prune(before_ns);
        }
        while self.losses.first_key_value().is_some_and(|((time, _), _)| *time < before_ns) {
            self.losses.pop_first();
        }
        // The last line before that time stays: the next line is compared with it.
        while self.workload_failures.keys().nth(1).is_some_and(|(time, _)| *time < before_ns) {
            self.workload_failures.pop_first();
        }
    }

    /// Clears the events after a change of the clock from `before_ns` back to `now_ns`.
    pub(super) fn restart(&mut self, before_ns: u64, now_ns: u64) {
        for index in [&mut self.stalls, &mut self.rewrites, &mut self.errors] {
            index.restart(now_ns);
        }
        self.losses.clear();
        // What was forgotten may have been a rewrite of what fails next.
        self.losses_evicted_until = Some(now_ns);
        // Later lines may be of the old clock again, if only one line was far out of order.
        self.forgotten_at = Some(before_ns);
        self.workload_failures.clear();
    }
}
