//! Recognises test disks, on which profile g may corrupt data.

use std::{fs, path::Path};

use rustix::fs::{FileType, stat};

use super::error::WorkloadError;
use crate::kernel::{
    device_stack::{BottomDisk, bottom_disks},
    mountinfo,
    sysfs::device_id,
};

/// Fails with [`WorkloadError::NotATestDisk`] unless all disks below `path` are test disks.
pub(super) fn require_test_disk(path: &Path) -> Result<(), WorkloadError> {
    let found = stat(path).map_err(|errno| WorkloadError::Path { path: path.to_owned(), errno })?;
    let is_device = FileType::from_raw_mode(found.st_mode) == FileType::BlockDevice;
    let dev = device_id(if is_device { found.st_rdev } else { found.st_dev });
    let sysfs = Path::new("/sys");
    let disks = bottom_disks(sysfs, dev).or_else(|| {
        // A btrfs file system has an anonymous device number; its mount names the block device.
        let mounts = mountinfo::read().ok()?;
        let source = mountinfo::source_device(&mounts, &fs::canonicalize(path).ok()?)?;
        bottom_disks(sysfs, device_id(stat(&source).ok()?.st_rdev))
    });
    let disks = disks.ok_or_else(|| WorkloadError::NotATestDisk {
        device: path.display().to_string(),
        reason: "no block device lies below it".to_owned(),
    })?;
    match first_other_disk(&disks) {
        None => Ok(()),
        Some((device, reason)) => Err(WorkloadError::NotATestDisk { device, reason }),
    }
}

/// The first disk that is not known to be a test disk, and the reason.
fn first_other_disk(disks: &[BottomDisk]) -> Option<(String, String)> {
    disks.iter().find_map(|disk| Some((disk.name.clone(), not_a_test_disk(disk)?)))
}

/// Why a disk is not known to be a test disk; `None` if it is one.
fn not_a_test_disk(BottomDisk { name, model }: &BottomDisk) -> Option<String> {
    let is_numbered = |prefix: &str| {
        name.strip_prefix(prefix)
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
    };
    // A loop device's file accepts any data; null_blk discards it, or keeps it in memory.
    if is_numbered("loop") || is_numbered("nullb") {
        return None;
    }
    match model.as_str() {
        "scsi_debug" | "QEMU NVMe Ctrl" => None,
        "" => Some("it has no model name".to_owned()),
        model => Some(format!("its model is {model}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(name: &str, model: &str) -> BottomDisk {
        BottomDisk { name: name.to_owned(), model: model.to_owned() }
    }

    fn reason(name: &str, model: &str) -> Option<String> {
        not_a_test_disk(&disk(name, model))
    }

    #[test]
    fn test_disks_are_recognized() {
        for (name, model) in [("sdb", "scsi_debug"), ("nvme0n1", "QEMU NVMe Ctrl"), ("loop3", "")] {
            assert_eq!(reason(name, model), None, "{name}");
        }
    }

    #[test]
    fn other_disks_are_refused_with_the_reason() {
        assert_eq!(reason("sda", "ST4000NM").unwrap(), "its model is ST4000NM");
        assert_eq!(reason("vda", "").unwrap(), "it has no model name");
        assert!(reason("loopback", "").is_some());
        // One other disk is enough to refuse a stack.
        assert_eq!(
            first_other_disk(&[disk("sdb", "scsi_debug"), disk("sda", "ST4000NM")]),
            Some(("sda".to_owned(), "its model is ST4000NM".to_owned()))
        );
        assert_eq!(first_other_disk(&[disk("sdb", "scsi_debug"), disk("loop3", "")]), None);
    }
}
