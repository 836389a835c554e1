//! What an experiment changes on the machine, and how each change is taken back: as often as one
//! likes, by whichever process.

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
    process::{Process, until},
    stable_writes,
};

/// How long whoever still uses something may take to let go.
const LIMIT: Duration = Duration::from_secs(10);

/// One change. It is written down before it is made, so it may not have been made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum Change {
    /// A folder was made, to mount on.
    Folder {
        /// Which.
        path: PathBuf,
    },
    /// A file was made, for a loop device.
    File {
        /// Which.
        path: PathBuf,
    },
    /// A loop device was given that file.
    Loop {
        /// Its number.
        number: u32,
        /// The file.
        file: PathBuf,
        /// Whether the device was there before.
        was_there: bool,
    },
    /// `queue/stable_writes` was written.
    Switch {
        /// The disk.
        disk: String,
        /// What stood there.
        before: String,
    },
    /// A file system was mounted, where only the experiment and its workload see it.
    Mount {
        /// Where.
        point: PathBuf,
    },
    /// A workload was started. It sees the mount, so it goes first.
    Workload {
        /// Which.
        process: Process,
    },
}

impl Change {
    /// Takes it back; says what was done, or nothing if there was nothing to do.
    ///
    /// # Errors
    /// What keeps it from being taken back, in one line.
    pub fn undo(&self) -> Result<Option<String>, String> {
        match self {
            Self::Folder { path } => {
                let removed = gone(fs::remove_dir(path), path)?;
                Ok(removed.then(|| format!("removed the folder {}", path.display())))
            }
            Self::File { path } => {
                let removed = gone(fs::remove_file(path), path)?;
                Ok(removed.then(|| format!("removed the file {}", path.display())))
            }
            Self::Loop { number, file, was_there } => {
                let name = loop_device::name_of(*number);
                match loop_device::detach(*number, file, *was_there) {
                    Ok(true) => Ok(Some(format!("detached {name} from {}", file.display()))),
                    Ok(false) => Ok(None),
                    Err(error) => Err(format!("{name} is still attached: {error}")),
                }
            }
            Self::Switch { disk, before } => stable_writes::restore(disk, before)
                .map(|written| {
                    written
                        .then(|| format!("set {} to {before}", stable_writes::path(disk).display()))
                })
                .map_err(|error| format!("{}: {error}", stable_writes::path(disk).display())),
            Self::Mount { point } => unmounted(point),
            Self::Workload { process } => {
                let ran = process.runs();
                if process.end(LIMIT) {
                    Ok(ran.then(|| format!("ended the workload, process {}", process.pid)))
                } else {
                    Err(format!("the workload, process {}, does not end", process.pid))
                }
            }
        }
    }
}

/// Whether something was removed that may have been gone.
fn gone(outcome: io::Result<()>, path: &Path) -> Result<bool, String> {
    match outcome {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

fn unmounted(point: &Path) -> Result<Option<String>, String> {
    let mut outcome = Err(Errno::BUSY);
    // A last writer may just be ending.
    until(LIMIT, || {
        outcome = unmount(point, UnmountFlags::NOFOLLOW);
        outcome != Err(Errno::BUSY)
    });
    match outcome {
        Ok(()) => Ok(Some(format!("unmounted {}", point.display()))),
        // Nothing is mounted there, or no longer, or in mounts that are gone with their process.
        Err(Errno::INVAL | Errno::NOENT) => Ok(None),
        Err(errno) => Err(format!("{} is still mounted: {errno}", point.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_made_or_is_gone_is_taken_back_as_well() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        for change in [
            Change::Folder { path: path.clone() },
            Change::File { path: path.clone() },
            Change::Loop { number: 1_000_000, file: path.clone(), was_there: true },
            Change::Switch { disk: "no such disk".to_owned(), before: "0".to_owned() },
        ] {
            assert_eq!(change.undo(), Ok(None), "{change:?}");
        }
        fs::write(&path, "").unwrap();
        let file = Change::File { path: path.clone() };
        assert_eq!(file.undo(), Ok(Some(format!("removed the file {}", path.display()))));
        assert_eq!(file.undo(), Ok(None));
    }

    #[test]
    fn a_folder_that_somebody_put_something_into_stays() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("precious"), "").unwrap();
        Change::Folder { path: folder.path().to_owned() }.undo().unwrap_err();
        assert!(folder.path().join("precious").exists());
    }

    #[test]
    fn a_change_is_read_as_it_was_written() {
        let change = Change::Switch { disk: "sda".to_owned(), before: "1".to_owned() };
        let text = serde_json::to_string(&change).unwrap();
        assert_eq!(text, r#"{"change":"switch","disk":"sda","before":"1"}"#);
        assert_eq!(serde_json::from_str::<Change>(&text).unwrap(), change);
    }
}
