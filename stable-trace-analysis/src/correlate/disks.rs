//! Assigns small numbers to disks by name.

use hashbrown::HashMap;

/// Maximum number of names; further names resolve to no disk. No kernel has that many: the limit
/// bounds the memory that a recording can take.
pub(super) const MAX_NAMES: usize = 1024;

/// Longer than any name of a block device (`DISK_NAME_LEN` is 32, include/linux/blkdev.h, 7.3; a
/// partition adds its number).
const MAX_NAME_BYTES: usize = 64;

/// A disk including its partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Disk(u32);

/// The disks that lines have named.
#[derive(Debug, Default)]
pub(super) struct Disks {
    known: HashMap<Box<str>, Disk>,
    names: Vec<Box<str>>,
}

impl Disks {
    /// The disk with this name, or with a partition of this name.
    pub(super) fn resolve(&mut self, device: &str) -> Option<Disk> {
        if let Some(disk) = self.known.get(device) {
            return Some(*disk);
        }
        let name = disk_name(device);
        let disk = match self.known.get(name) {
            Some(disk) => *disk,
            None => self.insert(name, Disk(u32::try_from(self.names.len()).ok()?))?,
        };
        if name == device { Some(disk) } else { self.insert(device, disk) }
    }

    pub(super) fn name(&self, disk: Disk) -> Option<&str> {
        self.names.get(usize::try_from(disk.0).ok()?).map(|name| &**name)
    }

    fn insert(&mut self, name: &str, disk: Disk) -> Option<Disk> {
        if self.known.len() >= MAX_NAMES || name.len() > MAX_NAME_BYTES {
            return None;
        }
        self.known.insert(name.into(), disk);
        if usize::try_from(disk.0).ok()? == self.names.len() {
            self.names.push(name.into());
        }
        Some(disk)
    }
}

/// The name of the disk of a partition: `sda` of `sda1`, `nvme0n1` of `nvme0n1p1` (`disk_name`,
/// block/partitions/core.c, 5.10: the number follows the name of the disk, after a `p` if that ends
/// in a digit). Other names, such as `loop0` and `dm-1`, are disks themselves.
fn disk_name(device: &str) -> &str {
    let stem = device.trim_end_matches(|letter: char| letter.is_ascii_digit());
    if stem.len() == device.len() {
        return device;
    }
    if let Some(disk) = stem.strip_suffix('p')
        && disk.ends_with(|letter: char| letter.is_ascii_digit())
    {
        return disk;
    }
    let lettered = |prefix| {
        stem.strip_prefix(prefix).is_some_and(|rest: &str| {
            !rest.is_empty() && rest.bytes().all(|letter| letter.is_ascii_lowercase())
        })
    };
    if ["sd", "vd", "hd", "xvd"].into_iter().any(lettered) { stem } else { device }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_belongs_to_its_disk() {
        for (device, disk) in [
            ("sda", "sda"),
            ("sda1", "sda"),
            ("sdaa12", "sdaa"),
            ("vdb3", "vdb"),
            ("nvme0n1", "nvme0n1"),
            ("nvme0n1p2", "nvme0n1"),
            ("mmcblk0p1", "mmcblk0"),
            ("loop0", "loop0"),
            ("loop7p1", "loop7"),
            ("dm-1", "dm-1"),
            ("md127", "md127"),
            ("md127p1", "md127"),
            ("pmem0", "pmem0"),
            ("7", "7"),
            ("p1", "p1"),
        ] {
            assert_eq!(disk_name(device), disk, "{device}");
        }
    }

    #[test]
    fn a_disk_keeps_its_number_and_its_name() {
        let mut disks = Disks::default();
        let first = disks.resolve("sda1").unwrap();
        let second = disks.resolve("sdb").unwrap();
        assert_eq!(disks.resolve("sda"), Some(first));
        assert_eq!(disks.resolve("sda2"), Some(first));
        assert_ne!(first, second);
        assert_eq!((disks.name(first), disks.name(second)), (Some("sda"), Some("sdb")));
    }

    #[test]
    fn the_number_of_disks_is_bounded() {
        let mut disks = Disks::default();
        let known =
            (0..5 * MAX_NAMES).filter(|n| disks.resolve(&format!("sd{n}x")).is_some()).count();
        assert_eq!(known, MAX_NAMES);
        assert_eq!(disks.resolve(&"x".repeat(1000)), None);
    }
}
