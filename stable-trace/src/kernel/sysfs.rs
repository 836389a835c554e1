//! Reading sysfs: small files, links, and the folders of block devices.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustix::fs::{major, minor};
use stable_trace_analysis::units::DeviceId;

/// A file's text without white space around it; `None` if it cannot be read.
pub(crate) fn read(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// A file's number; `None` if it cannot be read or holds no number.
pub(crate) fn read_number(path: &Path) -> Option<u32> {
    read(path)?.parse().ok()
}

/// The device number in a file such as `dev`.
pub(crate) fn read_dev(path: &Path) -> Option<DeviceId> {
    read(path)?.parse().ok()
}

/// Number of writes that a block device, which may be a partition, was given and has not completed: the second number of
/// `inflight` (`part_inflight_show`, block/genhd.c, 5.10 to 7.3).
pub(crate) fn writes_in_flight(sysfs: &Path, dev: DeviceId) -> Option<u32> {
    let text = read(&block_folder(sysfs, dev).join("inflight"))?;
    text.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// The last component of a link's target.
pub(crate) fn link_name(path: &Path) -> Option<String> {
    let target = fs::read_link(path).ok()?;
    Some(target.file_name()?.to_str()?.to_owned())
}

/// The names and paths in a folder, sorted by name.
pub(crate) fn entries(folder: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut entries: Vec<_> = fs::read_dir(folder)?
        .flatten()
        .filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())))
        .collect();
    entries.sort_unstable();
    Ok(entries)
}

/// The kernel's name of a device, from the name of its sysfs folder: a file name cannot contain a
/// slash, so `kobject_set_name_vargs` (lib/kobject.c, 6.12) writes `cciss!c0d0` for `cciss/c0d0`.
pub(crate) fn kernel_name(folder: &str) -> String {
    folder.replace('!', "/")
}

/// The name of a device's sysfs folder, from the [`kernel_name`].
pub(crate) fn folder_name(device: &str) -> String {
    device.replace('/', "!")
}

/// The kernel's name of the device whose folder this is.
pub(crate) fn device_name(folder: &Path) -> String {
    kernel_name(&folder.file_name().unwrap_or_default().to_string_lossy())
}

/// The folder of a block device below `sysfs`. It need not exist.
pub(crate) fn block_folder(sysfs: &Path, dev: DeviceId) -> PathBuf {
    sysfs.join(format!("dev/block/{dev}"))
}

/// The folder of a whole disk below `sysfs`. It need not exist.
pub(crate) fn disk_folder(sysfs: &Path, disk: &str) -> PathBuf {
    sysfs.join("block").join(folder_name(disk))
}

pub(crate) fn is_partition(folder: &Path) -> bool {
    folder.join("partition").exists()
}

/// The folders of a disk's partitions. The device numbers do not tell the disk: from the 16th
/// partition on they come from the extended range (`blk_alloc_ext_minor`, block/genhd.c).
pub(crate) fn partitions(disk: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = entries(disk).unwrap_or_default().into_iter();
    entries.map(|(_, path)| path).filter(|path| is_partition(path))
}

/// The canonical folder of the disk that a device is, or is a partition of. `None` if there is no
/// such device.
pub(crate) fn whole_disk(folder: &Path) -> Option<PathBuf> {
    let mut folder = folder.canonicalize().ok()?;
    if is_partition(&folder) {
        folder.pop();
    }
    Some(folder)
}

/// The file behind a loop device. The kernel appends ` (deleted)` to the name of a deleted file.
pub(crate) fn loop_backing_file(folder: &Path) -> Option<String> {
    let text = fs::read_to_string(folder.join("loop/backing_file")).ok()?;
    Some(text.trim_end_matches('\n').to_owned())
}

/// The device number in an `st_dev` or an `st_rdev`.
pub(crate) fn device_id(dev: u64) -> DeviceId {
    DeviceId::new(major(dev), minor(dev))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_in_flight_are_behind_the_reads() {
        let sysfs = tempfile::tempdir().unwrap();
        let dev: DeviceId = "7:3".parse().unwrap();
        assert_eq!(writes_in_flight(sysfs.path(), dev), None);
        let folder = block_folder(sysfs.path(), dev);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("inflight"), "       2       17\n").unwrap();
        assert_eq!(writes_in_flight(sysfs.path(), dev), Some(17));
    }
}
