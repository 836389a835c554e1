//! Pages given to a writer while under writeback.

use crate::backing::Backing;

/// [`UnstableKey::context`]: a buffered write.
pub const WRITE_BEGIN: u32 = 0;
/// [`UnstableKey::context`]: a write fault.
pub const PAGE_MKWRITE: u32 = 1;

/// Key of the map `UNSTABLE_WRITES`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UnstableKey {
    /// The file system or device that the folio belongs to.
    pub backing: Backing,
    /// [`WRITE_BEGIN`] or [`PAGE_MKWRITE`].
    pub context: u32,
    /// 1 if the folio's mapping requires stable pages.
    pub required: u32,
}

const _: () = assert!(size_of::<UnstableKey>() == size_of::<Backing>() + 8);
