//! What `--device` covers: a device, what it is made of, and what is made of it.
//!
//! Siblings are not covered: one partition of a disk does not cover another, while the disk covers
//! both, and each of them covers the disk.

use std::path::Path;

use stable_trace_analysis::units::DeviceId;

use super::{device_stack::with_lower_devices, mounts::Mounts};

/// Whether the selected devices cover `dev`: it is below or above one of them, or one itself.
/// Reads sysfs each time, so a device that was set up a moment ago is covered too.
pub(crate) fn covers(sysfs: &Path, mounts: &Mounts, selected: &[DeviceId], dev: DeviceId) -> bool {
    let below = with_lower_devices(sysfs, mounts, dev);
    selected.iter().any(|selected| {
        below.contains(selected) || with_lower_devices(sysfs, mounts, *selected).contains(&dev)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::test_sysfs::TestSysfs;

    /// `sda` (8:0) with `sda1` (8:1) and `sda2` (8:2); LUKS `dm-0` (253:0) on `sda2`, and LVM `dm-1`
    /// and `dm-2` (253:1, 253:2) on that; `md0` (9:0) over `sdb` (8:16) and `sdc` (8:32); `loop0`
    /// (7:0) with a file on `dm-1`, `loop1` (7:1) with a file on the btrfs over `sdb` and `sdc`,
    /// `loop2` (7:2) with a file on `sda1`.
    fn sysfs() -> TestSysfs {
        let sysfs = TestSysfs::with_devices(&[
            ("sda", "8:0"),
            ("sda/sda1", "8:1"),
            ("sda/sda2", "8:2"),
            ("sdb", "8:16"),
            ("sdc", "8:32"),
            ("dm-0", "253:0"),
            ("dm-1", "253:1"),
            ("dm-2", "253:2"),
            ("md0", "9:0"),
            ("loop0", "7:0"),
            ("loop1", "7:1"),
            ("loop2", "7:2"),
        ]);
        sysfs.link("devices/dm-0/slaves/sda2", "devices/sda/sda2");
        sysfs.link("devices/dm-1/slaves/dm-0", "devices/dm-0");
        sysfs.link("devices/dm-2/slaves/dm-0", "devices/dm-0");
        sysfs.link("devices/md0/slaves/sdb", "devices/sdb");
        sysfs.link("devices/md0/slaves/sdc", "devices/sdc");
        for (name, file) in [
            ("loop0", "/no/such/data/disk.img"),
            ("loop1", "/no/such/pool/a.img (deleted)"),
            ("loop2", "/no/such/other.img"),
        ] {
            sysfs.file(&format!("devices/{name}/loop/backing_file"), file);
        }
        sysfs.link("fs/btrfs/aaaa/devices/sdb", "devices/sdb");
        sysfs.link("fs/btrfs/aaaa/devices/sdc", "devices/sdc");
        sysfs
    }

    const MOUNTS: &str = "\
21 1 8:1 / / rw - ext4 /dev/sda1 rw
22 21 253:1 / /no/such/data rw - ext4 /dev/mapper/data rw
23 21 0:40 / /no/such/pool rw - btrfs /dev/sdb rw
";

    fn covered(selected: &str, all: &[&str]) -> Vec<String> {
        let sysfs = sysfs();
        let mounts = Mounts::from_text(MOUNTS, sysfs.path());
        let selected = [selected.parse().unwrap()];
        let is_covered =
            |dev: &&&str| covers(sysfs.path(), &mounts, &selected, dev.parse().unwrap());
        all.iter().filter(is_covered).map(|dev| (*dev).to_owned()).collect()
    }

    const ALL: &[&str] = &[
        "8:0", "8:1", "8:2", "8:16", "8:32", "253:0", "253:1", "253:2", "9:0", "7:0", "7:1", "7:2",
    ];

    #[test]
    fn a_disk_covers_everything_on_it() {
        let on_sda = ["8:0", "8:1", "8:2", "253:0", "253:1", "253:2", "7:0", "7:2"];
        assert_eq!(covered("8:0", ALL), on_sda);
        assert_eq!(covered("8:16", ALL), ["8:16", "9:0", "7:1"], "md, and a loop device on btrfs");
    }

    #[test]
    fn siblings_are_not_covered() {
        assert_eq!(covered("8:1", ALL), ["8:0", "8:1", "7:2"], "not sda2");
        assert_eq!(covered("253:2", ALL), ["8:0", "8:2", "253:0", "253:2"], "not dm-1");
    }

    #[test]
    fn a_mapped_device_covers_both_directions() {
        let both = ["8:0", "8:2", "253:0", "253:1", "253:2", "7:0"];
        assert_eq!(covered("253:0", ALL), both);
        assert_eq!(covered("7:0", ALL), ["8:0", "8:2", "253:0", "253:1", "7:0"]);
        assert_eq!(covered("9:0", ALL), ["8:16", "8:32", "9:0"]);
    }

    #[test]
    fn a_device_that_is_not_there_covers_itself() {
        assert_eq!(covered("66:6", &["66:6", "8:0"]), ["66:6"]);
    }
}
