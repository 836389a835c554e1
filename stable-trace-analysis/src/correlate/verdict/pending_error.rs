//! Integrity errors whose verdict is not due yet.

use crate::{
    correlate::{
        disks::{Disk, Disks},
        verdict::{
            event_refs::EventRef,
            key_table::{FileId, PageId},
            traced_writers::TracedWriters,
        },
    },
    event::{Check, IntegrityError, Operation, PageKind, Proof, Source},
};

/// Maximum number of file pages kept of an error. Further ones count as unknown.
const MAX_FILE_PAGES: usize = 32;

/// File systems whose pages are only in memory.
const MEMORY: [&str; 4] = ["tmpfs", "devtmpfs", "hugetlbfs", "ramfs"];

/// Maximum length in bytes of a path in an explanation.
const MAX_PATH: usize = 200;

/// Maximum length in bytes of a name in an explanation.
const MAX_NAME: usize = 64;

/// A page of the page cache.
#[derive(Clone, Copy, Debug)]
pub(super) struct FilePage {
    pub(super) id: Option<PageId>,
    /// The disk of its file.
    pub(super) disk: Option<Disk>,
    /// Whether its mapping requires stable pages.
    pub(super) stable: Option<bool>,
    /// Whether it is of a block device's own page cache.
    pub(super) of_device: bool,
    /// Whether the probes see every writer of its file system.
    pub(super) writers_traced: bool,
}

/// The parts of an `integrity` line that its verdict needs.
#[derive(Debug)]
pub(super) struct PendingError {
    pub(super) event: EventRef,
    pub(super) op: Operation,
    pub(super) check: Check,
    pub(super) source: Source,
    pub(super) device: Option<String>,
    pub(super) disk: Option<Disk>,
    /// First sector; `None` if the command has none.
    pub(super) sector: Option<u64>,
    /// What its data and protection information prove.
    pub(super) proof: Option<Proof>,
    /// When the request began; `None` if that is not known.
    pub(super) began_ns: Option<u64>,
    pub(super) file_pages: Vec<FilePage>,
    /// Pages of buffers of direct I/O.
    pub(super) buffer_pages: u64,
    /// Pages without a known owner, and pages that the line does not list.
    pub(super) unknown_pages: u64,
    /// Device of the first file page.
    pub(super) file_device: Option<Box<str>>,
    /// File system of the first file page.
    pub(super) fs: Option<Box<str>>,
    pub(super) path: Option<Box<str>>,
    /// Name of the submitting thread.
    pub(super) comm: Option<Box<str>>,
}

impl PendingError {
    pub(super) fn new(
        event: EventRef,
        error: &IntegrityError,
        disks: &mut Disks,
        traced: &TracedWriters,
    ) -> Self {
        let mut file_pages = Vec::new();
        let (mut buffer_pages, mut unknown_pages) = (0, 0);
        let mut named = None;
        for page in &error.pages {
            let fs = page.fs.as_deref();
            match page.kind {
                // No disk is behind these: what is sent to one is a buffer.
                PageKind::File if fs.is_some_and(|fs| MEMORY.contains(&fs)) => buffer_pages += 1,
                PageKind::File if file_pages.len() < MAX_FILE_PAGES => {
                    let device = page.device.as_deref();
                    named = named.or(Some((device, page.fs.as_deref())));
                    let file = FileId::new(page.subvolume_dev, page.dev, page.ino);
                    let id = file.zip(page.index).map(|(file, index)| PageId { file, index });
                    let disk = device.and_then(|device| disks.resolve(device));
                    let writers_traced = traced.include(fs);
                    let (stable, of_device) = (page.stable, fs == Some("bdev"));
                    file_pages.push(FilePage { id, disk, stable, of_device, writers_traced });
                }
                PageKind::Anonymous | PageKind::Shared => buffer_pages += 1,
                PageKind::File | PageKind::Swap | PageKind::Unknown => unknown_pages += 1,
            }
        }
        let listed = u64::try_from(error.pages.len()).unwrap_or(u64::MAX);
        unknown_pages += error.pages_total.unwrap_or(0).saturating_sub(listed);
        let (file_device, fs) = named.unwrap_or_default();
        Self {
            event,
            op: error.op,
            check: error.check,
            source: error.source,
            device: error.device.clone().map(|device| prefix(&device, MAX_NAME).into()),
            disk: error.device.as_deref().and_then(|device| disks.resolve(device)),
            sector: error.sector,
            file_pages,
            proof: error.proof.as_ref().map(|proof| Proof {
                why_none: proof.why_none.as_deref().map(|why| prefix(why, MAX_PATH).to_owned()),
                ..*proof
            }),
            began_ns: error.began_ns_before.map(|ns| event.time_ns.saturating_sub(ns)),
            buffer_pages,
            unknown_pages,
            file_device: file_device.map(|device| prefix(device, MAX_NAME).into()),
            fs: fs.or(error.fs.as_deref()).map(|fs| prefix(fs, MAX_NAME).into()),
            path: error.path.as_deref().map(|path| prefix(path, MAX_PATH).into()),
            comm: error.comm.as_deref().map(|comm| prefix(comm, MAX_NAME).into()),
        }
    }

    /// The identified pages, sorted and without duplicates.
    pub(super) fn pages(&self) -> Vec<PageId> {
        let mut pages: Vec<_> = self.file_pages.iter().filter_map(|page| page.id).collect();
        pages.sort_unstable();
        pages.dedup();
        pages
    }

    /// The disk of the error and the disks of its files, without duplicates.
    pub(super) fn disks(&self) -> Vec<Disk> {
        let of_files = self.file_pages.iter().filter_map(|page| page.disk);
        let mut disks: Vec<_> = self.disk.into_iter().chain(of_files).collect();
        disks.sort_unstable();
        disks.dedup();
        disks
    }
}

/// The longest prefix of a text within a number of bytes.
fn prefix(text: &str, bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(prefix("häuser", 2), "h");
        assert_eq!(prefix("häuser", 3), "hä");
        assert_eq!(prefix("h", 3), "h");
    }
}
