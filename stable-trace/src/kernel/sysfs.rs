//! The two ways sysfs says something: a small file, and the name that a link leads to.

use std::path::{Path, PathBuf};

use rustix::fs::{major, minor};
use stable_trace_analysis::units::DeviceId;

/// A file's text without the line end, or nothing if it cannot be read.
pub(crate) fn read(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// A file's number, or nothing if it cannot be read or is none.
pub(crate) fn read_number(path: &Path) -> Option<u32> {
    read(path)?.parse().ok()
}

/// The last component of a link's target.
pub(crate) fn link_name(path: &Path) -> Option<String> {
    let target = std::fs::read_link(path).ok()?;
    Some(target.file_name()?.to_str()?.to_owned())
}

/// The kernel's own name of a device, from its sysfs directory's: a slash cannot stand in a file
/// name, so `kobject_set_name_vargs` (lib/kobject.c, 6.12) writes `cciss!c0d0` for `cciss/c0d0`.
pub(crate) fn kernel_name(directory: &str) -> String {
    directory.replace('!', "/")
}

/// The directory that [`kernel_name`] came from.
pub(crate) fn directory_name(device: &str) -> String {
    device.replace('/', "!")
}

/// The device number in a file such as `dev`.
pub(crate) fn read_dev(path: &Path) -> Option<DeviceId> {
    read(path)?.parse().ok()
}

/// The folder of a block device below `sysfs`, which need not exist.
pub(crate) fn block_folder(sysfs: &Path, dev: DeviceId) -> PathBuf {
    sysfs.join(format!("dev/block/{dev}"))
}

/// The device number in an `st_dev` or an `st_rdev`.
pub(crate) fn device_id(dev: u64) -> DeviceId {
    DeviceId::new(major(dev), minor(dev))
}
