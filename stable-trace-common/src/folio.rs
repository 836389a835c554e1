//! Which page of which file a folio holds.

use crate::backing::Backing;

/// The identity of a folio, read when something happened to it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Folio {
    /// Inode number of the file.
    pub ino: u64,
    /// Index of the folio's first page within the file.
    pub index: u64,
    /// The file system or device that the file is on.
    pub backing: Backing,
}

impl Folio {
    /// A folio that could not be identified.
    pub const UNKNOWN: Self = Self { ino: 0, index: 0, backing: Backing::NONE };
}

const _: () = assert!(size_of::<Folio>() == 16 + size_of::<Backing>());
