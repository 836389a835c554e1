//! What uses a block device: a mount of it, or a device stacked on it.

use std::path::Path;

use stable_trace_analysis::units::DeviceId;

use super::{mountinfo::Mount, sysfs};

/// Describes a mount or a holder of a device, of its disk or of one of its partitions; `None` if
/// nothing uses them.
pub(crate) fn user(sysfs: &Path, mounts: &[Mount], dev: DeviceId) -> Option<String> {
    let own = sysfs::block_folder(sysfs, dev).canonicalize().ok()?;
    let mut related = vec![own.clone()];
    if sysfs::is_partition(&own) {
        related.extend(sysfs::whole_disk(&own));
    } else {
        related.extend(sysfs::partitions(&own));
    }
    related.iter().find_map(|folder| {
        let name = sysfs::device_name(folder);
        let holders = sysfs::entries(&folder.join("holders")).unwrap_or_default();
        if let Some((holder, _)) = holders.first() {
            return Some(format!("{} holds {name}", sysfs::kernel_name(holder)));
        }
        let dev = sysfs::read_dev(&folder.join("dev"))?;
        let node = Path::new("/dev").join(&name);
        // btrfs has a device number of its own, and the device as its source.
        let mount =
            mounts.iter().find(|mount| mount.dev == dev || Path::new(&mount.source) == node)?;
        Some(format!("{name} is mounted on {}", mount.point))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{mountinfo::parse, test_sysfs::TestSysfs};

    const MOUNTINFO: &str = "\
21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 21 0:40 / /mnt/my\\040disk rw - btrfs /dev/sdb rw
31 21 0:41 / /tmp rw - tmpfs tmpfs rw
";

    /// `sda` with a partition, `sdb`, `loop3`, and `dm-1` over `nvme0n1`.
    fn sysfs() -> TestSysfs {
        let sysfs = TestSysfs::with_devices(&[
            ("sda", "8:0"),
            ("sda/sda1", "8:1"),
            ("sdb", "8:16"),
            ("nvme0n1", "259:0"),
            ("loop3", "7:3"),
            ("dm-1", "253:1"),
        ]);
        sysfs.link("devices/nvme0n1/holders/dm-1", "devices/dm-1");
        sysfs
    }

    #[test]
    fn users_of_disk_and_partitions_are_found() {
        let sysfs = sysfs();
        let mounts = parse(MOUNTINFO);
        let user = |major, minor| user(sysfs.path(), &mounts, DeviceId::new(major, minor));
        assert_eq!(user(8, 0).unwrap(), "sda1 is mounted on /");
        assert_eq!(user(8, 1).unwrap(), "sda1 is mounted on /");
        assert_eq!(user(8, 16).unwrap(), "sdb is mounted on /mnt/my disk");
        assert_eq!(user(259, 0).unwrap(), "dm-1 holds nvme0n1");
        assert_eq!(user(7, 3), None);
    }
}
