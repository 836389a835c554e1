//! Integrity errors that wait for their verdict: what of a line is needed for it.

use crate::{
    correlate::{
        disks::{Disk, Disks},
        verdict::{moments::Moment, topics::Page},
    },
    event::{Check, IntegrityError, Operation, PageKind, Source},
};

/// Pages of one error that are looked at. Of the others it is known that they are there.
pub const MAX_PAGES: usize = 32;

/// Bytes of a path that an explanation shows.
const MAX_PATH: usize = 200;

/// Bytes of a device's or a file system's name that an explanation shows.
const MAX_NAME: usize = 64;

/// One page of the page cache.
#[derive(Clone, Copy, Debug)]
pub struct FilePage {
    /// Which one, where the line says it.
    pub page: Option<Page>,
    /// The disk of its file.
    pub disk: Option<Disk>,
    /// What its mapping said.
    pub stable: Option<bool>,
}

/// An error that waits.
#[derive(Debug)]
pub struct PendingError {
    /// When and where.
    pub moment: Moment,
    /// What the request wanted.
    pub op: Operation,
    /// Which check failed.
    pub check: Check,
    /// Who noticed.
    pub source: Source,
    /// The device, as the line names it.
    pub device: Option<String>,
    /// Its disk.
    pub disk: Option<Disk>,
    /// First sector.
    pub sector: u64,
    /// Pages of the page cache.
    pub file_pages: Vec<FilePage>,
    /// Pages of processes.
    pub anonymous_pages: u64,
    /// Pages that are neither, or not known.
    pub unseen_pages: u64,
    /// Device, file system and path of the first page, for the explanation.
    pub file_device: Option<Box<str>>,
    /// Its file system.
    pub fs: Option<Box<str>>,
    /// Its path.
    pub path: Option<Box<str>>,
    /// Who submitted it.
    pub comm: Option<Box<str>>,
}

impl PendingError {
    /// Takes what is needed.
    pub fn new(moment: Moment, error: &IntegrityError, disks: &mut Disks) -> Self {
        let mut file_pages = Vec::new();
        let (mut anonymous_pages, mut unseen_pages) = (0, 0);
        let mut named = None;
        for page in &error.pages {
            match page.kind {
                PageKind::File if file_pages.len() < MAX_PAGES => {
                    let device = page.device.as_deref();
                    named = named.or(Some((device, page.fs.as_deref())));
                    let identity = page.dev.zip(page.ino).zip(page.index);
                    let disk = device.and_then(|device| disks.of(device));
                    file_pages.push(FilePage { page: identity, disk, stable: page.stable });
                }
                PageKind::Anonymous => anonymous_pages += 1,
                PageKind::File | PageKind::Unknown => unseen_pages += 1,
            }
        }
        let listed = u64::try_from(error.pages.len()).unwrap_or(u64::MAX);
        unseen_pages += error.pages_total.unwrap_or(0).saturating_sub(listed);
        let (file_device, fs) = named.unwrap_or_default();
        Self {
            moment,
            op: error.op,
            check: error.check,
            source: error.source,
            device: error.device.clone().map(|device| short(&device, MAX_NAME).into()),
            disk: error.device.as_deref().and_then(|device| disks.of(device)),
            sector: error.sector,
            file_pages,
            anonymous_pages,
            unseen_pages,
            file_device: file_device.map(|device| short(device, MAX_NAME).into()),
            fs: fs.or(error.fs.as_deref()).map(|fs| short(fs, MAX_NAME).into()),
            path: error.path.as_deref().map(|path| short(path, MAX_PATH).into()),
            comm: error.comm.as_deref().map(|comm| short(comm, MAX_NAME).into()),
        }
    }

    /// The pages that are known, each once.
    pub fn pages(&self) -> Vec<Page> {
        let mut pages: Vec<_> = self.file_pages.iter().filter_map(|page| page.page).collect();
        pages.sort_unstable();
        pages.dedup();
        pages
    }

    /// The disks that it is about, each once: the one that failed, and those of the files.
    pub fn disks(&self) -> Vec<Disk> {
        let of_files = self.file_pages.iter().filter_map(|page| page.disk);
        let mut disks: Vec<_> = self.disk.into_iter().chain(of_files).collect();
        disks.sort_unstable();
        disks.dedup();
        disks
    }
}

/// As much of a text as fits into that many bytes.
fn short(text: &str, bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_letters() {
        assert_eq!(short("häuser", 2), "h");
        assert_eq!(short("häuser", 3), "hä");
        assert_eq!(short("h", 3), "h");
    }
}
