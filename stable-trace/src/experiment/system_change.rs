//! The changes that an experiment makes to the system, and how each is undone. Any process can undo
//! a change, any number of times.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{
    io::Errno,
    mount::{UnmountFlags, unmount},
};
use serde::{Deserialize, Serialize};

use super::{
    loop_device,
    process::{Process, wait_until},
    stable_writes,
};

/// How long to wait for the last user of a mount, and for the workload to exit.
const TIMEOUT: Duration = Duration::from_secs(10);

/// One change. It is recorded before it is made, so it may never have been made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub(super) enum SystemChange {
    /// A directory was created, as a mount point.
    #[serde(rename = "folder")]
    Directory { path: PathBuf },
    /// A file was created, for a loop device.
    File { path: PathBuf },
    /// A loop device was attached to a file.
    #[serde(rename = "loop")]
    LoopDevice {
        number: u32,
        file: PathBuf,
        /// Whether the device existed before.
        #[serde(rename = "was_there")]
        existed: bool,
    },
    /// `queue/stable_writes` of a disk was written.
    #[serde(rename = "switch")]
    StableWrites {
        disk: String,
        /// The former value.
        before: String,
    },
    /// A file system was mounted in the private mount namespace of the experiment.
    Mount { point: PathBuf },
    /// A workload was started. It uses the mount, so it is ended before the unmount.
    Workload { process: Process },
}

impl SystemChange {
    /// Undoes the change. Returns a description of what was done, `None` if nothing was to do, or
    /// the reason why the change cannot be undone.
    pub(super) fn undo(&self) -> Result<Option<String>, String> {
        match self {
            Self::Directory { path } => {
                let removed = removed(fs::remove_dir(path), path)?;
                Ok(removed.then(|| format!("removed the directory {}", path.display())))
            }
            Self::File { path } => {
                let removed = removed(fs::remove_file(path), path)?;
                Ok(removed.then(|| format!("removed the file {}", path.display())))
            }
            Self::LoopDevice { number, file, existed } => {
                let name = loop_device::name_of(*number);
                match loop_device::detach(*number, file, *existed) {
                    Ok(true) => Ok(Some(format!("detached {name} from {}", file.display()))),
                    Ok(false) => Ok(None),
                    Err(error) => Err(format!("{name} is still attached: {error}")),
                }
            }
            Self::StableWrites { disk, before } => {
                let path = stable_writes::path(disk);
                match stable_writes::restore(disk, before) {
                    Ok(written) => {
                        Ok(written.then(|| format!("set {} to {before}", path.display())))
                    }
                    Err(error) => Err(format!("{}: {error}", path.display())),
                }
            }
            Self::Mount { point } => unmount_if_mounted(point),
            Self::Workload { process } => {
                let was_running = process.is_running();
                if process.terminate(TIMEOUT) {
                    Ok(was_running.then(|| format!("ended the workload, process {}", process.pid)))
                } else {
                    Err(format!("the workload, process {}, does not exit", process.pid))
                }
            }
        }
    }
}

/// Whether a file was removed; `false` if it did not exist.
fn removed(outcome: io::Result<()>, path: &Path) -> Result<bool, String> {
    match outcome {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

fn unmount_if_mounted(point: &Path) -> Result<Option<String>, String> {
    let mut outcome = Err(Errno::BUSY);
    // The last writer may be about to exit.
    wait_until(TIMEOUT, || {
        outcome = unmount(point, UnmountFlags::NOFOLLOW);
        outcome != Err(Errno::BUSY)
    });
    match outcome {
        Ok(()) => Ok(Some(format!("unmounted {}", point.display()))),
        // Nothing is mounted there, or the mount namespace ended with its process.
        Err(Errno::INVAL | Errno::NOENT) => Ok(None),
        Err(errno) => Err(format!("{} is still mounted: {errno}", point.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_that_was_not_made_or_is_undone_needs_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        for change in [
            SystemChange::Directory { path: path.clone() },
            SystemChange::File { path: path.clone() },
            SystemChange::LoopDevice { number: 1_000_000, file: path.clone(), existed: true },
            SystemChange::StableWrites { disk: "no such disk".to_owned(), before: "0".to_owned() },
        ] {
            assert_eq!(change.undo(), Ok(None), "{change:?}");
        }
        fs::write(&path, "").unwrap();
        let file = SystemChange::File { path: path.clone() };
        assert_eq!(file.undo(), Ok(Some(format!("removed the file {}", path.display()))));
        assert_eq!(file.undo(), Ok(None));
    }

    #[test]
    fn a_directory_that_is_not_empty_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("precious"), "").unwrap();
        SystemChange::Directory { path: dir.path().to_owned() }.undo().unwrap_err();
        assert!(dir.path().join("precious").exists());
    }

    #[test]
    fn a_change_deserializes_as_it_was_serialized() {
        let change = SystemChange::StableWrites { disk: "sda".to_owned(), before: "1".to_owned() };
        let text = serde_json::to_string(&change).unwrap();
        assert_eq!(text, r#"{"change":"switch","disk":"sda","before":"1"}"#);
        assert_eq!(serde_json::from_str::<SystemChange>(&text).unwrap(), change);
    }
}
