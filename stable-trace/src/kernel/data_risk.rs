//! What below a device rests on data that does not change on its way.
//!
//! A device that checks protection information requires stable pages itself. A device stacked on it need not: a
//! loop device never does, whatever its backing file lies on. dm-integrity and the mirrors of md require none.

use std::path::Path;

use stable_trace_analysis::{event::Risk, units::DeviceId};

use super::{
    device_stack::with_lower_devices, dm_table::Target, dm_tables, mounts::Mounts,
    protection::protection, sysfs,
};

/// What the device, or a device below it, rests on; the first of several.
pub(crate) fn risk(sysfs: &Path, mounts: &Mounts, dev: DeviceId) -> Option<Risk> {
    let stack = with_lower_devices(sysfs, mounts, dev).into_iter();
    let of_one = |dev| {
        let folder = sysfs::block_folder(sysfs, dev);
        if folder.exists() {
            return own_risk(&folder, dev);
        }
        // Data of btrfs has checksums, unless a file or a mount is `nodatasum`.
        let fs = mounts.by_dev(dev)?.fs?;
        (fs == "btrfs").then_some(Risk::Checksums)
    };
    stack.filter_map(of_one).min()
}

/// What a device itself rests on, by its folder in sysfs.
pub(crate) fn own_risk(folder: &Path, dev: DeviceId) -> Option<Risk> {
    if protection(folder).is_some_and(|found| found.is_checked()) {
        return Some(Risk::ProtectionInformation);
    }
    // RAID4, 5 and 6 copy the data before they compute the parity (`async_copy_data`, drivers/md/raid5.c, 5.10 to
    // 7.3), or require stable pages (`skip_copy`).
    if let Some(level) = sysfs::read(&folder.join("md/level")) {
        return is_mirror(&level).then_some(Risk::Mirrors);
    }
    if !folder.join("dm").exists() {
        return None;
    }
    dm_tables::targets(dev)?.iter().filter_map(target_risk).min()
}

fn target_risk(target: &Target) -> Option<Risk> {
    match target.kind.as_str() {
        // Without a hash of its own, dm-integrity stores what dm-crypt computes of its encrypted copy.
        "integrity" => target.parameters.contains("internal_hash:").then_some(Risk::Checksums),
        "mirror" => Some(Risk::Mirrors),
        "raid" => is_mirror(target.parameters.split(' ').next()?).then_some(Risk::Mirrors),
        _ => None,
    }
}

/// Whether it is a RAID level that writes the same data to several disks, one after the other from the same pages.
fn is_mirror(level: &str) -> bool {
    level == "raid1" || level.starts_with("raid10")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::test_sysfs::TestSysfs;

    /// `sda` (8:0) checks, its partition `sda1` (8:1); `dm-0` (253:0) on `sda1`; `sdb` (8:16) does not check;
    /// `md0` (9:0) is a mirror of `sdb`, `md1` (9:1) has parity, `md2` (9:2) mirrors `sda`.
    fn sysfs() -> TestSysfs {
        let sysfs = TestSysfs::with_devices(&[
            ("sda", "8:0"),
            ("sda/sda1", "8:1"),
            ("sdb", "8:16"),
            ("dm-0", "253:0"),
            ("md0", "9:0"),
            ("md1", "9:1"),
            ("md2", "9:2"),
        ]);
        sysfs.file("devices/sda/integrity/format", "T10-DIF-TYPE1-CRC");
        sysfs.file("devices/sdb/integrity/format", "none");
        sysfs.link("devices/dm-0/slaves/sda1", "devices/sda/sda1");
        for (array, level, disk) in
            [("md0", "raid1", "sdb"), ("md1", "raid5", "sdb"), ("md2", "raid10", "sda")]
        {
            sysfs.file(&format!("devices/{array}/md/level"), level);
            sysfs.link(&format!("devices/{array}/slaves/{disk}"), &format!("devices/{disk}"));
        }
        sysfs
    }

    #[test]
    fn the_risk_is_found_below() {
        let sysfs = sysfs();
        let mounts = Mounts::from_text("30 1 0:52 / /pool rw - btrfs /dev/sdb rw\n", sysfs.path());
        let risk = |major, minor| risk(sysfs.path(), &mounts, DeviceId::new(major, minor));
        assert_eq!(risk(8, 0), Some(Risk::ProtectionInformation));
        assert_eq!(risk(8, 1), Some(Risk::ProtectionInformation), "a partition of it");
        assert_eq!(risk(253, 0), Some(Risk::ProtectionInformation), "a device mapper on that");
        assert_eq!(risk(8, 16), None);
        assert_eq!(risk(0, 52), Some(Risk::Checksums), "a btrfs on that");
        assert_eq!(risk(9, 0), Some(Risk::Mirrors));
        assert_eq!(risk(9, 1), None, "parity of a copy");
        assert_eq!(
            risk(9, 2),
            Some(Risk::ProtectionInformation),
            "a mirror above a disk that checks"
        );
        assert_eq!(risk(66, 6), None, "one that is not there");
    }

    #[test]
    fn targets_of_device_mapper_have_risks() {
        let risk = |kind: &str, parameters: &str| {
            target_risk(&Target { kind: kind.to_owned(), parameters: parameters.to_owned() })
        };
        let hash = "7:0 0 4 D 3 block_size:512 internal_hash:crc32c";
        assert_eq!(risk("integrity", hash), Some(Risk::Checksums));
        assert_eq!(risk("integrity", "7:0 0 28 J 1 block_size:512"), None, "below dm-crypt");
        assert_eq!(risk("raid", "raid1 3 0 region_size 1024 2 - 8:0 - 8:16"), Some(Risk::Mirrors));
        assert_eq!(risk("raid", "raid5_ls 3 64 region_size 1024 3 - 8:0 - 8:16 - 8:32"), None);
        assert_eq!(risk("mirror", "core 2 64 nosync 2 8:0 0 8:16 0"), Some(Risk::Mirrors));
        assert_eq!(risk("linear", "8:0 0"), None);
    }
}
