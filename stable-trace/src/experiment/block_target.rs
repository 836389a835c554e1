//! The device that the file systems are made on: one that was named, or a loop device over a
//! scratch file.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{SeekFrom, seek, stat},
    mount::{MountFlags, MountPropagationFlags, mount},
};
use stable_trace_analysis::units::DeviceId;

use super::{
    args::Fs, error::ExperimentError, loop_device, plan::Plan, system_change::SystemChange,
    undo_journal::UndoJournal,
};
use crate::{
    kernel::{
        devices::{DevicesError, DiskId, resolve_device},
        private_mount::unshare_mounts,
        sysfs::device_id,
    },
    workload::{Profile, device::Claim},
};

/// A block device that may be overwritten.
#[derive(Debug)]
pub struct BlockTarget {
    /// Its node.
    pub path: PathBuf,
    /// The disk that it is, or is a partition of.
    pub disk: DiskId,
    /// Keeps a loop device's file.
    _held: Option<File>,
}

/// Gives this process mounts of its own: what it mounts, only it and its workload see, and it is
/// gone with them. Call it while there is one thread.
///
/// # Errors
/// The kernel refuses.
pub fn own_mounts() -> Result<(), ExperimentError> {
    // An unmount elsewhere reaches this namespace, so that no file system of others stays busy.
    unshare_mounts(MountPropagationFlags::DOWNSTREAM).map_err(ExperimentError::Namespace)
}

impl BlockTarget {
    /// A loop device over a new file of `size` bytes, in `folder`. Both are in the journal; the file
    /// has no name any more, so that nothing is left of it once nobody uses the device.
    ///
    /// # Errors
    /// No file can be made there, or there is no loop device.
    pub fn looped(
        journal: &mut UndoJournal,
        folder: &Path,
        size: u64,
    ) -> Result<Self, ExperimentError> {
        // The kernel names the file by its whole path, and so does the journal.
        let folder = fs::canonicalize(folder).map_err(|source| ExperimentError::File {
            action: "put a scratch file in",
            path: folder.to_owned(),
            source,
        })?;
        let path = folder.join(format!(".stable-trace-experiment.{}.img", std::process::id()));
        let failed = |source| ExperimentError::File {
            action: "make the scratch file",
            path: path.clone(),
            source,
        };
        if path.symlink_metadata().is_ok() {
            return Err(failed(io::ErrorKind::AlreadyExists.into()));
        }
        journal.record(SystemChange::File { path: path.clone() }).map_err(failed)?;
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        file.set_len(size).map_err(failed)?;
        let claim = |number, was_there| {
            journal.record(SystemChange::LoopDevice {
                number,
                file: path.clone(),
                existed: was_there,
            })
        };
        let (number, held) =
            loop_device::over(&file, claim).map_err(ExperimentError::LoopDevice)?;
        fs::remove_file(&path).map_err(failed)?;
        let disk = resolve_device(Path::new("/sys"), &loop_device::name_of(number))?;
        Ok(Self { path: loop_device::path_of(number), disk, _held: Some(held) })
    }

    /// The device of that name, if nobody uses it and the plan's files fit.
    ///
    /// # Errors
    /// There is none, it is in use, or too small.
    pub fn named(name: &str, plan: &Plan) -> Result<Self, ExperimentError> {
        let disk = resolve_device(Path::new("/sys"), name)?;
        // The disk of a partition is what the switch belongs to; overwritten is what was named.
        let path = node(name)?;
        let claim = Claim::new(&path, 0)?;
        let file = claim.open(Profile::A)?;
        let size = seek(&file, SeekFrom::End(0)).map_err(|errno| ExperimentError::File {
            action: "measure",
            path: path.clone(),
            source: errno.into(),
        })?;
        plan.check_room(size)?;
        Ok(Self { path, disk, _held: None })
    }

    /// Number of the disk.
    pub const fn dev(&self) -> DeviceId {
        self.disk.dev
    }

    /// Mounts a file system that was made on it.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn mount(
        &self,
        journal: &mut UndoJournal,
        fs: Fs,
        point: &Path,
    ) -> Result<(), ExperimentError> {
        let failed =
            |source| ExperimentError::File { action: "mount on", path: point.to_owned(), source };
        journal.record(SystemChange::Mount { point: point.to_owned() }).map_err(failed)?;
        mount(&self.path, point, fs.name(), MountFlags::NOATIME, None)
            .map_err(|errno| ExperimentError::Mount { fs, device: self.path.clone(), errno })
    }
}

/// The node of a device: the user's path, or what `/dev` has for a name or a number.
fn node(name: &str) -> Result<PathBuf, ExperimentError> {
    let path = if name.starts_with('/') {
        PathBuf::from(name)
    } else if name.contains(':') {
        Path::new("/dev/block").join(name)
    } else {
        Path::new("/dev").join(name)
    };
    let unknown = || DevicesError::Unknown { name: name.to_owned(), similar: Vec::new() };
    let path = fs::canonicalize(&path).map_err(|_| unknown())?;
    let found = stat(&path).map_err(|_| unknown())?;
    if device_id(found.st_rdev) == DeviceId::new(0, 0) {
        return Err(DevicesError::NotBlock(path).into());
    }
    Ok(path)
}
