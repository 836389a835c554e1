//! Turns records of integrity errors into events.

use stable_trace_analysis::{
    event::{Check, Event, IntegrityError, Operation, Page, PageKind, Proof, Source},
    units::DeviceId,
};
use stable_trace_common::{
    backing::numbers,
    folio::Folio,
    integrity::{
        ANONYMOUS, APPLICATION_TAG, FILE, FILE_SYSTEM, GUARD, IntegrityKey, NVME, PageRun,
        REFERENCE_TAG, SCSI, SHARED, SWAP, VERIFY, WRITE,
    },
    record::{IntegrityRecord, SEVERAL_COMM},
};

use super::{
    decode::name,
    enricher::Enricher,
    evidence::{Failed, proof},
    identity::{Disk, Location, subvolume_dev},
    paths::FilePath,
};
use crate::collect::evidence::Copied;

/// The most pages of one run that an event lists. `pages_total` has the number of all pages.
const MAX_LISTED_PAGES: u64 = 64;

impl Enricher {
    /// Turns a record into an integrity error, with a proof if its data was `copied`. No filter hides one.
    pub(crate) fn integrity(&mut self, record: &IntegrityRecord, copied: Option<&Copied>) -> Event {
        let disk = self.identities.disk(disk_number(&record.key));
        let pages: Vec<_> =
            record.runs.iter().flat_map(|run| self.pages(&record.key, run)).collect();
        let listed = pages.len() as u64;
        let has_task = record.tid != 0;
        let (path, path_from) = self.path(record).map(FilePath::into_fields).unwrap_or_default();
        Event::Integrity(IntegrityError {
            op: operation(&record.key),
            device: disk.device.clone(),
            dev: Some(disk.dev),
            sector: sector(record),
            sectors: record.sectors,
            check: check(&record.key),
            source: source(&record.key, &disk),
            began_ns_before: (record.began_ns != 0)
                .then(|| record.time_ns.saturating_sub(record.began_ns)),
            proof: proof_of(record, &disk, copied),
            status: "EILSEQ".to_owned(),
            pages_total: (record.pages > listed).then_some(record.pages),
            fs: common(pages.iter().map(|page| page.fs.as_ref())).cloned(),
            path: path.map(Into::into),
            path_from,
            pages,
            pid: has_task.then_some(record.pid),
            tid: has_task.then_some(record.tid),
            comm: (has_task || record.comm == SEVERAL_COMM).then(|| name(&record.comm).into()),
        })
    }

    /// The pages of a run.
    fn pages(&mut self, key: &IntegrityKey, run: &PageRun) -> Vec<Page> {
        let count = run.count.min(MAX_LISTED_PAGES);
        let kind = match run.kind {
            FILE => PageKind::File,
            ANONYMOUS => PageKind::Anonymous,
            SHARED => PageKind::Shared,
            SWAP => PageKind::Swap,
            _ => PageKind::Unknown,
        };
        if !matches!(run.kind, FILE | SHARED) || run.first == Folio::UNKNOWN {
            return (0..count).map(|_| Page::without_file(kind)).collect();
        }
        let identity = self.identities.get(&run.first.backing);
        let Location { device, dev, fs } = identity.location();
        let fs = fs.or_else(|| Some(name(&run.first.backing.fs)));
        // Not always has a file system named its file. A block device's own page cache may have the number 0.
        let is_named = run.first.ino != 0 || key.source != FILE_SYSTEM;
        let page = |offset| Page {
            kind,
            subvolume_dev: subvolume_dev(run.first.subvolume),
            ino: is_named.then_some(run.first.ino),
            index: is_named.then_some(run.first.index.saturating_add(offset)),
            device: device.as_deref().map(str::to_owned),
            dev,
            fs: fs.as_deref().map(str::to_owned),
            stable: Some(run.stable != 0),
        };
        (0..count).map(page).collect()
    }

    /// The path, if all pages are of one file.
    fn path(&mut self, record: &IntegrityRecord) -> Option<FilePath> {
        let runs = || record.runs.iter().filter(|run| run.count > 0);
        let listed: u64 = runs().map(|run| run.count).sum();
        if listed < record.pages {
            return None;
        }
        let file = |run: &PageRun| {
            (run.kind == FILE).then_some((run.first.backing, run.first.subvolume, run.first.ino))
        };
        let (backing, subvolume, ino) = common(runs().map(file))?;
        self.path_of(&backing, subvolume, ino, (record.pid != 0).then_some(record.pid))
    }
}

/// The value that all items share; `None` if one differs or is `None`.
fn common<T: PartialEq>(mut all: impl Iterator<Item = Option<T>>) -> Option<T> {
    let first = all.next()??;
    all.all(|other| other.as_ref() == Some(&first)).then_some(first)
}

/// The device number of the disk.
pub(crate) const fn disk_number(key: &IntegrityKey) -> DeviceId {
    let (major, minor) = numbers(key.dev);
    DeviceId::new(major, minor)
}

/// What the copy of a failure proves. `None` where nothing is there to compare: the disk has no protection
/// information, or the checksum is another one.
fn proof_of(record: &IntegrityRecord, disk: &Disk, copied: Option<&Copied>) -> Option<Proof> {
    let protection = disk.protection.as_ref().filter(|_| record.key.source != FILE_SYSTEM)?;
    let Some(copied) = copied else {
        return Some(Proof::none(
            "nothing was copied, of too many failures at once or for lack of kernel symbols",
        ));
    };
    let failed = Failed {
        op: operation(&record.key),
        source: source(&record.key, disk),
        sector: sector(record),
        sectors: record.sectors,
        protection,
    };
    Some(proof(&failed, copied))
}

/// The first sector. A command that user space passed through to the driver has none (`blk_mq_alloc_request`,
/// block/blk-mq.c, 5.10 to 7.3).
fn sector(record: &IntegrityRecord) -> Option<u64> {
    (record.sector != u64::MAX).then_some(record.sector)
}

pub(crate) const fn operation(key: &IntegrityKey) -> Operation {
    if key.op == WRITE { Operation::Write } else { Operation::Read }
}

pub(crate) const fn check(key: &IntegrityKey) -> Check {
    match key.check {
        GUARD => Check::Guard,
        APPLICATION_TAG => Check::ApplicationTag,
        REFERENCE_TAG => Check::ReferenceTag,
        _ => Check::Unknown,
    }
}

/// The source of the error: the one that the kernel recorded, else the driver of the disk, since only
/// it completes a request with this error.
pub(crate) const fn source(key: &IntegrityKey, disk: &Disk) -> Source {
    match key.source {
        SCSI => Source::Scsi,
        NVME => Source::Nvme,
        VERIFY => Source::Verify,
        FILE_SYSTEM => Source::Filesystem,
        _ => match disk.driver {
            Some(source) => source,
            None => Source::Block,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_common_value_is_shared_by_all() {
        assert_eq!(common([Some(1), Some(1)].into_iter()), Some(1));
        assert_eq!(common([Some(1), None].into_iter()), None);
        assert_eq!(common([Some(1), Some(2)].into_iter()), None);
        assert_eq!(common(std::iter::empty::<Option<u8>>()), None);
    }

    #[test]
    fn the_driver_is_the_source_if_none_was_recorded() {
        let key = |source| IntegrityKey { dev: 8 << 20, op: WRITE, check: GUARD, source };
        let disk = |driver| Disk { driver, ..Disk::default() };
        assert_eq!(source(&key(0), &disk(Some(Source::Scsi))), Source::Scsi);
        assert_eq!(source(&key(0), &disk(None)), Source::Block);
        assert_eq!(source(&key(VERIFY), &disk(Some(Source::Scsi))), Source::Verify);
    }
}
