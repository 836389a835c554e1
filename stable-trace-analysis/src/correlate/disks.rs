//! Disks by name, as small numbers.

use hashbrown::HashMap;

/// Names that are told apart; lines of further ones count as of no known disk. No kernel has that
/// many: it bounds what a recording can ask for.
pub const MAX_NAMES: usize = 1024;

/// No name of a block device is longer (`DISK_NAME_LEN` is 32, include/linux/blkdev.h, 7.3; a
/// partition adds its number).
const MAX_NAME_BYTES: usize = 64;

/// A disk, with its partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Disk(u32);

/// The disks that lines have named.
#[derive(Debug, Default)]
pub struct Disks {
    known: HashMap<Box<str>, Disk>,
    names: Vec<Box<str>>,
}

impl Disks {
    /// The disk that a device is, or is a partition of.
    pub fn of(&mut self, device: &str) -> Option<Disk> {
        if let Some(disk) = self.known.get(device) {
            return Some(*disk);
        }
        let name = disk_name(device);
        let disk = match self.known.get(name) {
            Some(disk) => *disk,
            None => self.learn(name, Disk(u32::try_from(self.names.len()).ok()?))?,
        };
        if name == device { Some(disk) } else { self.learn(device, disk) }
    }

    /// The name of a disk.
    #[must_use]
    pub fn name(&self, disk: Disk) -> Option<&str> {
        self.names.get(usize::try_from(disk.0).ok()?).map(|name| &**name)
    }

    fn learn(&mut self, name: &str, disk: Disk) -> Option<Disk> {
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

/// The name of the disk that a device's name says it is a partition of: `sda` of `sda1`, `nvme0n1`
/// of `nvme0n1p1` (`disk_name`, block/partitions/core.c, 5.10: the number follows the disk's name,
/// after a `p` if that ends in a digit). Other names are disks, such as `loop0` and `dm-1`.
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
    fn a_partition_counts_for_its_disk() {
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
        let first = disks.of("sda1").unwrap();
        let second = disks.of("sdb").unwrap();
        assert_eq!(disks.of("sda"), Some(first));
        assert_eq!(disks.of("sda2"), Some(first));
        assert_ne!(first, second);
        assert_eq!((disks.name(first), disks.name(second)), (Some("sda"), Some("sdb")));
    }

    #[test]
    fn a_recording_cannot_name_disks_without_end() {
        let mut disks = Disks::default();
        let known = (0..5 * MAX_NAMES).filter(|n| disks.of(&format!("sd{n}x")).is_some()).count();
        assert_eq!(known, MAX_NAMES);
        assert_eq!(disks.of(&"x".repeat(1000)), None);
    }
}
