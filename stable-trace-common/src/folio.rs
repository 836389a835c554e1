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
    /// The anonymous device of the file's btrfs subvolume: inode numbers of subvolumes repeat. 0 on
    /// other file systems, and if it is not known.
    pub subvolume: u32,
    /// Always 0.
    pub padding: u32,
}

impl Folio {
    /// A folio that could not be identified.
    pub const UNKNOWN: Self =
        Self { ino: 0, index: 0, backing: Backing::NONE, subvolume: 0, padding: 0 };
}

/// Offsets of btrfs's structures, in bytes, for the map `BTRFS_OFFSETS`. btrfs may be a module, and
/// loaded after the programs, so they are not in [`Offsets`](crate::offsets::Offsets).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BtrfsOffsets {
    /// 1 if those up to `anon_dev` are known.
    pub known: u32,
    /// `btrfs_inode.vfs_inode`
    pub vfs_inode: u32,
    /// `btrfs_inode.root`
    pub root: u32,
    /// `btrfs_root.anon_dev`
    pub anon_dev: u32,
    /// 1 if those below are known.
    pub checksums_known: u32,
    /// `btrfs_device.fs_info`
    pub device_fs: u32,
    /// `btrfs_device.bdev`
    pub device_bdev: u32,
    /// `btrfs_fs_info.sb`
    pub fs_sb: u32,
    /// `btrfs_fs_info.sectorsize`
    pub fs_block_bytes: u32,
    /// `btrfs_fs_info.fs_roots_radix`
    pub fs_roots: u32,
    /// `btrfs_root.inodes`, an xarray of inodes; [`ABSENT`](crate::offsets::ABSENT) up to 6.9.
    pub root_inodes: u32,
    /// `btrfs_root.inode_tree`, a red-black tree of inodes; [`ABSENT`](crate::offsets::ABSENT) from 6.10 on.
    pub root_inode_tree: u32,
    /// `btrfs_inode.rb_node`; [`ABSENT`](crate::offsets::ABSENT) from 6.10 on.
    pub inode_node: u32,
}

const _: () = assert!(size_of::<BtrfsOffsets>() == 52);
const _: () = assert!(size_of::<Folio>() == 16 + size_of::<Backing>() + 8);
