//! From records of integrity errors to events.

use stable_trace_analysis::{
    event::{Check, Event, IntegrityError, Operation, Page, PageKind, Source},
    units::DeviceId,
};
use stable_trace_common::{
    integrity::{
        ANONYMOUS, APPLICATION_TAG, FILE, GUARD, IntegrityKey, NVME, PageRun, REFERENCE_TAG, SCSI,
        VERIFY, WRITE,
    },
    record::IntegrityRecord,
};

use super::{
    decode::name,
    enricher::{Enricher, place},
    identity::{Disk, device_id},
    paths::File,
};

/// Pages that one event lists; `pages_total` says how many there are.
const LISTED: u64 = 64;

impl Enricher {
    /// Turns a record into an integrity error; nothing if the user did not ask for its device.
    pub fn integrity(&mut self, record: &IntegrityRecord) -> Option<Event> {
        let disk = self.identities.disk(disk_of(&record.key));
        if !disk.wanted {
            return None;
        }
        let pages: Vec<_> = record.runs.iter().flat_map(|run| self.pages(run)).collect();
        let listed = pages.len() as u64;
        let known = record.tid != 0;
        Some(Event::Integrity(IntegrityError {
            op: operation(&record.key),
            device: disk.device.clone(),
            dev: Some(disk.dev),
            sector: record.sector,
            sectors: record.sectors,
            check: check(&record.key),
            source: source(&record.key, &disk),
            status: "EILSEQ".to_owned(),
            pages_total: (record.pages > listed).then_some(record.pages),
            fs: only(pages.iter().map(|page| page.fs.as_ref())).cloned(),
            path: self.path(record),
            pages,
            pid: known.then_some(record.pid),
            tid: known.then_some(record.tid),
            comm: known.then(|| name(&record.comm)),
        }))
    }

    /// The pages of a run.
    fn pages(&mut self, run: &PageRun) -> Vec<Page> {
        let count = run.count.min(LISTED);
        if run.kind != FILE {
            let kind = if run.kind == ANONYMOUS { PageKind::Anonymous } else { PageKind::Unknown };
            let page = Page {
                kind,
                ino: None,
                index: None,
                device: None,
                dev: None,
                fs: None,
                stable: None,
            };
            return (0..count).map(|_| page.clone()).collect();
        }
        let identity = self.identities.get(&run.first.backing);
        let (device, dev, fs) = place(&identity);
        let fs = fs.or_else(|| Some(name(&run.first.backing.name)));
        let page = |step| Page {
            kind: PageKind::File,
            ino: Some(run.first.ino),
            index: Some(run.first.index.saturating_add(step)),
            device: device.clone(),
            dev,
            fs: fs.clone(),
            stable: Some(run.stable != 0),
        };
        (0..count).map(page).collect()
    }

    /// The path of the one file that all pages are of.
    fn path(&mut self, record: &IntegrityRecord) -> Option<String> {
        let runs = || record.runs.iter().filter(|run| run.count > 0);
        let named: u64 = runs().map(|run| run.count).sum();
        if named < record.pages {
            return None;
        }
        let file = |run: &PageRun| -> Option<File> {
            (run.kind == FILE).then(|| (device_id(&run.first.backing), run.first.ino))
        };
        let file = only(runs().map(file))?;
        self.paths.find(file, (record.pid != 0).then_some(record.pid))
    }
}

/// What all have in common; nothing if one has nothing, or another.
fn only<T: PartialEq>(mut all: impl Iterator<Item = Option<T>>) -> Option<T> {
    let first = all.next()??;
    all.all(|other| other.as_ref() == Some(&first)).then_some(first)
}

/// The disk of a count.
pub(crate) const fn disk_of(key: &IntegrityKey) -> DeviceId {
    DeviceId::new(key.dev >> 20, key.dev & 0xf_ffff)
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

/// Who noticed: whoever said so, else the driver of the disk, for no other fails a request so.
pub(crate) const fn source(key: &IntegrityKey, disk: &Disk) -> Source {
    match key.source {
        SCSI => Source::Scsi,
        NVME => Source::Nvme,
        VERIFY => Source::Verify,
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
    fn what_all_have_in_common_is_in_all() {
        assert_eq!(only([Some(1), Some(1)].into_iter()), Some(1));
        assert_eq!(only([Some(1), None].into_iter()), None);
        assert_eq!(only([Some(1), Some(2)].into_iter()), None);
        assert_eq!(only(std::iter::empty::<Option<u8>>()), None);
    }

    #[test]
    fn the_driver_stands_in_where_nobody_said_who_noticed() {
        let key = |source| IntegrityKey { dev: 8 << 20, op: WRITE, check: GUARD, source };
        let disk = |driver| Disk { driver, ..Disk::default() };
        assert_eq!(source(&key(0), &disk(Some(Source::Scsi))), Source::Scsi);
        assert_eq!(source(&key(0), &disk(None)), Source::Block);
        assert_eq!(source(&key(VERIFY), &disk(Some(Source::Scsi))), Source::Verify);
    }
}
