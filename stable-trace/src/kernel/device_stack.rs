//! What lies below a block device, down to the disks: whether anything there checks integrity.
//!
//! A device that checks what it is sent asks for stable pages itself. One that is stacked on it may
//! not: a loop device never does, whatever its backing file lies on.

use std::{os::unix::fs::MetadataExt as _, path::Path};

use stable_trace_analysis::units::DeviceId;

use super::{mounts::Mounts, sysfs};

/// Stacks that are deeper than this are not followed: no real one is, and links may lead in circles.
const DEPTH: u32 = 8;

/// Whether the device, or anything that it is stacked on, has protection information.
#[must_use]
pub fn checks_integrity(sysfs: &Path, mounts: &Mounts, dev: DeviceId) -> bool {
    look(sysfs, mounts, dev, DEPTH)
}

fn look(sysfs: &Path, mounts: &Mounts, dev: DeviceId, depth: u32) -> bool {
    let Some(depth) = depth.checked_sub(1) else { return false };
    let folder = sysfs::block_folder(sysfs, dev);
    if !folder.exists() {
        // A file system without a device of its own, such as btrfs: those that it lies on.
        let below = mounts.by_dev(dev).map(|backing| backing.disks).unwrap_or_default();
        return below.into_iter().any(|disk| disk != dev && look(sysfs, mounts, disk, depth));
    }
    let disk = mounts.disk_of(dev);
    if disk != dev {
        return look(sysfs, mounts, disk, depth);
    }
    let format = sysfs::read(&folder.join("integrity/format"));
    if format.is_some_and(|format| !matches!(format.as_str(), "" | "none" | "nop")) {
        return true;
    }
    let slaves = std::fs::read_dir(folder.join("slaves")).into_iter().flatten().flatten();
    let slaves = slaves.filter_map(|slave| sysfs::read_dev(&slave.path().join("dev")));
    let file = sysfs::read(&folder.join("loop/backing_file")).and_then(|path| device_of(&path));
    slaves.chain(file).any(|below| look(sysfs, mounts, below, depth))
}

/// The device that a file is, or lies on.
fn device_of(path: &str) -> Option<DeviceId> {
    // The kernel marks a file that was deleted under the loop device; it lies where it lay, but
    // cannot be found by its name any more.
    let metadata = std::fs::metadata(path).ok()?;
    let dev = if metadata.rdev() != 0 { metadata.rdev() } else { metadata.dev() };
    Some(sysfs::device_id(dev))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use tempfile::TempDir;

    use super::*;

    /// `sda` (8:0) checks, its partition `sda1` (8:1); `dm-0` (253:0) on `sda1`; `loop0` (7:0) on a
    /// file of this machine; `sdb` (8:16) does not check; `md0` (9:0) is stacked on itself.
    fn sysfs() -> TempDir {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        let file = |path: &str, text: &str| {
            fs::create_dir_all(at(path).parent().unwrap()).unwrap();
            fs::write(at(path), text).unwrap();
        };
        fs::create_dir_all(at("dev/block")).unwrap();
        for (name, dev) in [
            ("sda", "8:0"),
            ("sda/sda1", "8:1"),
            ("dm-0", "253:0"),
            ("sdb", "8:16"),
            ("md0", "9:0"),
        ] {
            file(&format!("devices/{name}/dev"), dev);
            symlink(format!("../../devices/{name}"), at(&format!("dev/block/{dev}"))).unwrap();
        }
        file("devices/sda/integrity/format", "T10-DIF-TYPE1-CRC\n");
        file("devices/sdb/integrity/format", "none\n");
        file("devices/sda/sda1/partition", "1\n");
        fs::create_dir_all(at("devices/dm-0/slaves")).unwrap();
        symlink("../../sda/sda1", at("devices/dm-0/slaves/sda1")).unwrap();
        fs::create_dir_all(at("devices/md0/slaves")).unwrap();
        symlink("../../md0", at("devices/md0/slaves/md0")).unwrap();
        root
    }

    #[test]
    fn checks_are_found_below() {
        let root = sysfs();
        let mounts = Mounts::from_text("30 1 0:52 / /pool rw - btrfs /dev/sdb rw\n", root.path());
        let checks =
            |major, minor| checks_integrity(root.path(), &mounts, DeviceId::new(major, minor));
        assert!(checks(8, 0));
        assert!(checks(8, 1), "a partition of it");
        assert!(checks(253, 0), "a device mapper on that");
        assert!(!checks(8, 16));
        assert!(!checks(0, 52), "a btrfs on that");
        assert!(!checks(9, 0), "one that is stacked on itself");
        assert!(!checks(66, 6), "one that is not there");
    }
}
