//! The block device below a path: whether it is a test disk, and whether it is in use.

use std::{
    fs,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FileType, Mode, OFlags, SeekFrom, fstat, open, seek},
    io::Errno,
};

use super::{error::WorkloadError, profile::Profile, scratch};
use crate::kernel::{
    device_stack::{BottomDisk, bottom_disks},
    device_users::user,
    mountinfo,
    sysfs::device_id,
};

/// Lets profile g go ahead on a disk that exists to be broken.
///
/// # Errors
/// [`WorkloadError::NotATestDisk`] with what is there instead.
pub fn require_test_disk(path: &Path) -> Result<(), WorkloadError> {
    let stat = scratch::stat(path)
        .map_err(|errno| WorkloadError::Path { path: path.to_owned(), errno })?;
    let is_device = FileType::from_raw_mode(stat.st_mode) == FileType::BlockDevice;
    let dev = device_id(if is_device { stat.st_rdev } else { stat.st_dev });
    let sysfs = Path::new("/sys");
    let disks = bottom_disks(sysfs, dev).or_else(|| {
        // btrfs has a device number of its own: ask its mount for the source.
        let mounts = mountinfo::read().ok()?;
        let source = mountinfo::source_device(&mounts, &fs::canonicalize(path).ok()?)?;
        bottom_disks(sysfs, device_id(scratch::stat(&source).ok()?.st_rdev))
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

/// Name and description of the first disk that is not known to be a test disk.
fn first_other_disk(disks: &[BottomDisk]) -> Option<(String, String)> {
    disks.iter().find_map(|disk| Some((disk.name.clone(), not_a_test_disk(disk)?)))
}

/// Why a disk is not known to be a test disk; `None` if it is one.
fn not_a_test_disk(BottomDisk { name, model }: &BottomDisk) -> Option<String> {
    let numbered = |prefix: &str| {
        name.strip_prefix(prefix)
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
    };
    // A loop device's file accepts any data; null_blk discards it, or keeps it in memory.
    if numbered("loop") || numbered("nullb") {
        return None;
    }
    match model.as_str() {
        "scsi_debug" | "QEMU NVMe Ctrl" => None,
        "" => Some("it has no model name".to_owned()),
        model => Some(format!("its model is {model}")),
    }
}

/// A whole block device that nobody else can mount or claim while this exists.
#[derive(Debug)]
pub struct Claim {
    path: PathBuf,
    exclusive: OwnedFd,
}

impl Claim {
    /// Claims the device for writing to its first `file_size` bytes.
    ///
    /// # Errors
    /// It is no block device, is too small, or it, its disk or one of its partitions is in use.
    pub fn new(path: &Path, file_size: u64) -> Result<Self, WorkloadError> {
        let failed = |errno| WorkloadError::Open { path: path.to_owned(), errno };
        let stat = scratch::stat(path).map_err(failed)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::BlockDevice {
            return Err(WorkloadError::NotABlockDevice(path.to_owned()));
        }
        let in_use = |user| WorkloadError::DeviceInUse { device: path.to_owned(), user };
        let mounts = mountinfo::read().unwrap_or_default();
        if let Some(user) = user(Path::new("/sys"), &mounts, device_id(stat.st_rdev)) {
            return Err(in_use(user));
        }
        // The kernel's own answer, which knows other mount namespaces and swap, too.
        let flags = OFlags::RDWR | OFlags::EXCL | OFlags::CLOEXEC;
        let exclusive = open(path, flags, Mode::empty()).map_err(|errno| match errno {
            Errno::BUSY => in_use("the kernel says so: a mount elsewhere, or swap".to_owned()),
            errno => failed(errno),
        })?;
        let opened = fstat(&exclusive).map_err(failed)?;
        if opened.st_rdev != stat.st_rdev {
            return Err(WorkloadError::Replaced(path.to_owned()));
        }
        let size = seek(&exclusive, SeekFrom::End(0)).map_err(failed)?;
        if size < file_size {
            return Err(WorkloadError::DeviceTooSmall { device: path.to_owned(), size, file_size });
        }
        Ok(Self { path: path.to_owned(), exclusive })
    }

    /// Opens the device once more, for one worker.
    ///
    /// # Errors
    /// It vanished, or there are too many open files.
    pub fn open(&self, profile: Profile) -> Result<OwnedFd, WorkloadError> {
        let mut flags = OFlags::RDWR | OFlags::CLOEXEC;
        if profile.uses_direct_io() {
            flags |= OFlags::DIRECT;
        }
        let failed = |errno| WorkloadError::Open { path: self.path.clone(), errno };
        let file = open(&self.path, flags, Mode::empty()).map_err(failed)?;
        let (ours, theirs) = (fstat(&self.exclusive), fstat(&file));
        match (ours, theirs) {
            (Ok(ours), Ok(theirs)) if ours.st_rdev == theirs.st_rdev => Ok(file),
            _ => Err(WorkloadError::Replaced(self.path.clone())),
        }
    }
}

#[cfg(test)]
#[path = "device_tests.rs"]
mod tests;
