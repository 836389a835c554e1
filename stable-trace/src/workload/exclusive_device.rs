//! A block device that is opened exclusively, to be overwritten.

use std::{
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FileType, Mode, OFlags, SeekFrom, fstat, open, seek, stat},
    io::Errno,
};

use super::{error::WorkloadError, profile::Profile};
use crate::kernel::{device_users::user, mountinfo, sysfs::device_id};

/// A whole block device, opened with `O_EXCL`: the kernel refuses mounts and other claims of it.
#[derive(Debug)]
pub(crate) struct ExclusiveDevice {
    path: PathBuf,
    claim: OwnedFd,
}

impl ExclusiveDevice {
    /// Claims a device of at least `file_size` bytes. Fails if the device, its disk or one of its
    /// partitions is in use.
    pub(crate) fn claim(path: &Path, file_size: u64) -> Result<Self, WorkloadError> {
        let failed = |errno| WorkloadError::Open { path: path.to_owned(), errno };
        let found = stat(path).map_err(failed)?;
        if FileType::from_raw_mode(found.st_mode) != FileType::BlockDevice {
            return Err(WorkloadError::NotABlockDevice(path.to_owned()));
        }
        let in_use = |user| WorkloadError::DeviceInUse { device: path.to_owned(), user };
        let mounts = mountinfo::read().unwrap_or_default();
        if let Some(user) = user(Path::new("/sys"), &mounts, device_id(found.st_rdev)) {
            return Err(in_use(user));
        }
        // `O_EXCL` also detects swap, and mounts in other namespaces.
        let flags = OFlags::RDWR | OFlags::EXCL | OFlags::CLOEXEC;
        let claim = open(path, flags, Mode::empty()).map_err(|errno| match errno {
            Errno::BUSY => in_use("the kernel reports a mount elsewhere, or swap".to_owned()),
            errno => failed(errno),
        })?;
        let opened = fstat(&claim).map_err(failed)?;
        if opened.st_rdev != found.st_rdev {
            return Err(WorkloadError::Replaced(path.to_owned()));
        }
        let size = seek(&claim, SeekFrom::End(0)).map_err(failed)?;
        if size < file_size {
            return Err(WorkloadError::DeviceTooSmall { device: path.to_owned(), size, file_size });
        }
        Ok(Self { path: path.to_owned(), claim })
    }

    /// Opens the device for one worker.
    pub(crate) fn open(&self, profile: Profile) -> Result<OwnedFd, WorkloadError> {
        let mut flags = OFlags::RDWR | OFlags::CLOEXEC;
        if profile.uses_direct_io() {
            flags |= OFlags::DIRECT;
        }
        let failed = |errno| WorkloadError::Open { path: self.path.clone(), errno };
        let file = open(&self.path, flags, Mode::empty()).map_err(failed)?;
        match (fstat(&self.claim), fstat(&file)) {
            (Ok(claimed), Ok(opened)) if claimed.st_rdev == opened.st_rdev => Ok(file),
            _ => Err(WorkloadError::Replaced(self.path.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_regular_file_is_not_a_device() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(matches!(
            ExclusiveDevice::claim(file.path(), 4096),
            Err(WorkloadError::NotABlockDevice(_))
        ));
    }
}
