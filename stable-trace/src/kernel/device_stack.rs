//! The devices below a block device, down to the disks.

use std::{
    collections::BTreeSet,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::Path,
};

use stable_trace_analysis::units::DeviceId;

use super::{mounts::Mounts, sysfs};

/// The deepest stack that is followed to its disks (LVM on MD on NVMe is 3). It ends a circle of
/// links.
const MAX_DEPTH: u32 = 8;

/// File systems that hold device nodes, and answer at once.
const IN_MEMORY: [&str; 3] = ["devtmpfs", "tmpfs", "ramfs"];

/// A device and every device that it is made of: the disk of a partition, the parts of a mapped
/// device or an array, the device that holds a loop device's file. A file system with a device number
/// of its own, such as btrfs, is made of its members.
pub(crate) fn with_lower_devices(
    sysfs: &Path,
    mounts: &Mounts,
    dev: DeviceId,
) -> BTreeSet<DeviceId> {
    let mut found = BTreeSet::new();
    let mut next = vec![dev];
    while let Some(dev) = next.pop() {
        // False in a circle of links, too.
        if found.insert(dev) {
            next.extend(next_lower_devices(sysfs, mounts, dev));
        }
    }
    found
}

fn next_lower_devices(sysfs: &Path, mounts: &Mounts, dev: DeviceId) -> Vec<DeviceId> {
    let folder = sysfs::block_folder(sysfs, dev);
    if !folder.exists() {
        return mounts.by_dev(dev).map(|backing| backing.members).unwrap_or_default();
    }
    let disk = mounts.disk_of(dev);
    if disk != dev {
        return vec![disk];
    }
    let slaves = sysfs::entries(&folder.join("slaves")).unwrap_or_default().into_iter();
    let slaves = slaves.filter_map(|(_, slave)| sysfs::read_dev(&slave.join("dev")));
    let file = sysfs::loop_backing_file(&folder);
    slaves.chain(file.and_then(|path| device_of(mounts, &path))).collect()
}

/// The device that a file is, or the number of the file system that it lies on: that of the mount that its path leads
/// to. The file itself is only looked at in memory: the server of its file system may not answer.
fn device_of(mounts: &Mounts, path: &str) -> Option<DeviceId> {
    let mount = mounts.at(Path::new(path))?;
    let is_device = |node: &std::fs::Metadata| node.file_type().is_block_device();
    let node = IN_MEMORY.contains(&mount.fs.as_str()).then(|| std::fs::symlink_metadata(path).ok());
    match node.flatten().filter(is_device) {
        Some(node) => Some(sysfs::device_id(node.rdev())),
        None => Some(mount.dev),
    }
}

/// A disk that is not stacked on another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BottomDisk {
    /// The kernel's name.
    pub(crate) name: String,
    /// The model that its driver states; empty if it states none.
    pub(crate) model: String,
}

/// The disks at the bottom of a device's stack; `None` if there is no such block device. Below a
/// loop device nothing is followed.
pub(crate) fn bottom_disks(sysfs: &Path, dev: DeviceId) -> Option<Vec<BottomDisk>> {
    let disk = sysfs::whole_disk(&sysfs::block_folder(sysfs, dev))?;
    let mut found = Vec::new();
    add_bottom_disks(&disk, MAX_DEPTH, &mut found);
    Some(found)
}

fn add_bottom_disks(disk: &Path, depth: u32, found: &mut Vec<BottomDisk>) {
    let slaves = sysfs::entries(&disk.join("slaves")).unwrap_or_default();
    if slaves.is_empty() || depth == 0 {
        let model = sysfs::read(&disk.join("device/model")).unwrap_or_default();
        found.push(BottomDisk { name: sysfs::device_name(disk), model });
        return;
    }
    for (_, slave) in slaves {
        let disk = sysfs::whole_disk(&slave).unwrap_or(slave);
        add_bottom_disks(&disk, depth - 1, found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::test_sysfs::TestSysfs;

    /// `sda` (8:0) and its partition `sda1` (8:1); `dm-0` (253:0) on `sda1`; `dm-1` (253:1)
    /// on `sdb` (8:16) and `sda1`; `md0` (9:0) is stacked on itself.
    fn sysfs() -> TestSysfs {
        let sysfs = TestSysfs::with_devices(&[
            ("sda", "8:0"),
            ("sda/sda1", "8:1"),
            ("dm-0", "253:0"),
            ("dm-1", "253:1"),
            ("sdb", "8:16"),
            ("md0", "9:0"),
        ]);
        sysfs.file("devices/sda/device/model", "ST4000NM  ");
        sysfs.link("devices/dm-0/slaves/sda1", "devices/sda/sda1");
        sysfs.link("devices/dm-1/slaves/sdb", "devices/sdb");
        sysfs.link("devices/dm-1/slaves/sda1", "devices/sda/sda1");
        sysfs.link("devices/md0/slaves/md0", "devices/md0");
        sysfs
    }

    #[test]
    fn a_stack_ends_at_its_disks() {
        let sysfs = sysfs();
        let bottom = |major, minor| bottom_disks(sysfs.path(), DeviceId::new(major, minor));
        let disk =
            |name: &str, model: &str| BottomDisk { name: name.to_owned(), model: model.to_owned() };
        let (sda, sdb) = (disk("sda", "ST4000NM"), disk("sdb", ""));
        assert_eq!(bottom(8, 1), Some(vec![sda.clone()]), "the disk of a partition");
        assert_eq!(bottom(253, 0), Some(vec![sda.clone()]));
        assert_eq!(bottom(253, 1), Some(vec![sda, sdb.clone()]));
        assert_eq!(bottom(8, 16), Some(vec![sdb]));
        let md0 = Some(vec![disk("md0", "")]);
        assert_eq!(bottom(9, 0), md0, "one that is stacked on itself");
        assert_eq!(bottom(66, 6), None);
    }
}
