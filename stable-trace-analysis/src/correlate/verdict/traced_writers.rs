//! Which writers the probes see, by file system.

use crate::event::{Group, Start};

/// Functions that end a buffered write, and the file systems whose writes end in one of them. Others have
/// functions of their own, which no probe sees: f2fs, NFS, FUSE, bcachefs. fs/*/file.c, fs/*/inode.c,
/// 5.10 to 7.3. Nor is the page cache of a block device (`bdev`) in the list: file systems change their metadata in it
/// without any of these functions.
const WRITE_ENDS: [(&[&str], &[&str]); 3] = [
    (&["block_write_end", "generic_write_end"], &["ext2", "ext3", "ext4", "vfat", "msdos"]),
    (&["iomap_write_end"], &["xfs", "zonefs"]),
    (&["btrfs_dirty_pages", "btrfs_dirty_folio"], &["btrfs"]),
];

/// The file systems of which the probes see every writer.
#[derive(Debug, Default)]
pub(super) struct TracedWriters(Vec<&'static str>);

impl TracedWriters {
    pub(super) fn of(start: &Start) -> Self {
        let attached = |group, functions: Option<&[&str]>| {
            start.probes.iter().any(|probe| {
                probe.attached
                    && probe.group == group
                    && functions.is_none_or(|names| names.contains(&probe.function.as_str()))
            })
        };
        if start.filtered || !attached(Group::PageMkwrite, None) {
            return Self::default();
        }
        let seen = WRITE_ENDS
            .iter()
            .filter(|(functions, _)| attached(Group::WriteBegin, Some(functions)))
            .flat_map(|(_, file_systems)| *file_systems);
        Self(seen.copied().collect())
    }

    /// Whether every writer of a file system of this type is seen.
    pub(super) fn include(&self, fs: Option<&str>) -> bool {
        fs.is_some_and(|fs| self.0.contains(&fs))
    }
}
