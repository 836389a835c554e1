//! Names of files, read from the kernel's dentries.

use crate::backing::Backing;

/// The most components of a path that are read.
pub const COMPONENTS: usize = 32;

/// Bytes of names after which no further component is read. A power of two.
pub const NAMES_LIMIT: usize = 2048;

/// Bytes of one name: `NAME_MAX` of include/uapi/linux/limits.h, and its NUL.
pub const NAME_BYTES: usize = 256;

/// [`PathRecord::flags`]: the last name belongs to a child of the file system's root.
pub const COMPLETE: u32 = 1;
/// [`PathRecord::flags`]: the file has no name any more.
pub const DELETED: u32 = 2;
/// [`PathRecord::flags`]: the topmost dentry is the super block's `s_root`.
pub const AT_SB_ROOT: u32 = 4;

/// A file, as key of the map `PATHS_SENT`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileKey {
    /// The `s_dev` of its file system.
    pub dev: u32,
    /// The anonymous device of its btrfs subvolume; 0 if there is none.
    pub subvolume: u32,
    /// Its inode.
    pub ino: u64,
    /// Its `i_generation`.
    pub generation: u64,
}

/// The path of a file. It is in the ring before the event that needs it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathRecord {
    /// [`PATH`](crate::record::PATH).
    pub kind: u32,
    /// Size of this record in bytes.
    pub size: u32,
    /// The file system.
    pub backing: Backing,
    /// The anonymous device of the file's btrfs subvolume; 0 if there is none.
    pub subvolume: u32,
    /// [`COMPLETE`], [`DELETED`], [`AT_SB_ROOT`].
    pub flags: u32,
    /// Inode of the file.
    pub ino: u64,
    /// Bytes of `names` that are valid.
    pub length: u64,
    /// The names from the file's own to that below the root, each with a NUL. The bytes after
    /// `length` are undefined.
    pub names: [u8; NAMES_LIMIT + NAME_BYTES],
}

impl PathRecord {
    /// Its size in bytes.
    #[expect(clippy::cast_possible_truncation, reason = "2,376")]
    pub const SIZE: u32 = size_of::<Self>() as u32;
}

const _: () = assert!(size_of::<FileKey>() == 24);
const _: () =
    assert!(size_of::<PathRecord>() == 8 + size_of::<Backing>() + 24 + NAMES_LIMIT + NAME_BYTES);
