//! The block device that the experiment makes file systems on: a named device, or a loop device
//! over a scratch file.

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
        devices::{DevicesError, DiskId, resolve_disk},
        private_mount::unshare_mounts,
        sysfs::device_id,
    },
    workload::{Profile, exclusive_device::ExclusiveDevice},
};

#[derive(Debug)]
pub(super) struct BlockTarget {
    /// The device node.
    pub(super) path: PathBuf,
    /// The whole disk, also of a partition.
    pub(super) disk: DiskId,
    /// Keeps a loop device attached.
    _open: Option<File>,
}

/// Moves this process to a private mount namespace: its mounts are visible to it and its workload
/// only, and end with them. Must be called while the process has one thread.
pub(super) fn enter_private_namespace() -> Result<(), ExperimentError> {
    // An unmount elsewhere propagates here, so that this namespace keeps no file system busy.
    unshare_mounts(MountPropagationFlags::DOWNSTREAM).map_err(ExperimentError::Namespace)
}

impl BlockTarget {
    /// Attaches a loop device to a new file of `size` bytes in `dir`, and records both in the
    /// journal. The file is unlinked, so its space is freed when the device is detached.
    pub(super) fn loop_device(
        journal: &mut UndoJournal,
        dir: &Path,
        size: u64,
    ) -> Result<Self, ExperimentError> {
        // Canonical, because the journal's path is compared with the kernel's.
        let dir = fs::canonicalize(dir).map_err(|source| ExperimentError::File {
            action: "create a scratch file in",
            path: dir.to_owned(),
            source,
        })?;
        let path = dir.join(format!(".stable-trace-experiment.{}.img", std::process::id()));
        let failed = |source| ExperimentError::File {
            action: "create the scratch file",
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
        let record = |number, existed| {
            journal.record(SystemChange::LoopDevice { number, file: path.clone(), existed })
        };
        let (number, open) =
            loop_device::attach(&file, record).map_err(ExperimentError::LoopDevice)?;
        fs::remove_file(&path).map_err(failed)?;
        let disk = resolve_disk(Path::new("/sys"), &loop_device::name_of(number))?;
        Ok(Self { path: loop_device::path_of(number), disk, _open: Some(open) })
    }

    /// Takes a device that is not in use and has room for the plan's files.
    pub(super) fn named(name: &str, plan: &Plan) -> Result<Self, ExperimentError> {
        let disk = resolve_disk(Path::new("/sys"), name)?;
        // `queue/stable_writes` belongs to the whole disk, but only the named device is
        // overwritten.
        let path = device_node(name)?;
        let device = ExclusiveDevice::claim(&path, 0)?;
        let file = device.open(Profile::A)?;
        let size = seek(&file, SeekFrom::End(0)).map_err(|errno| ExperimentError::File {
            action: "measure",
            path: path.clone(),
            source: errno.into(),
        })?;
        plan.check_room(size)?;
        Ok(Self { path, disk, _open: None })
    }

    /// The device number of the disk.
    pub(super) const fn dev(&self) -> DeviceId {
        self.disk.dev
    }

    /// Mounts the file system on the device, and records the mount in the journal.
    pub(super) fn mount(
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

/// The device node for the value of `--device`: a path, `MAJOR:MINOR`, or a kernel name.
fn device_node(name: &str) -> Result<PathBuf, ExperimentError> {
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
