//! What the user asked for, checked before anything attaches.

use std::path::{Path, PathBuf};

use stable_trace_common::task::COMM_LEN;

/// What cannot be asked for.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FilterError {
    /// Nobody has this process id.
    #[error("--pid {0}: there is no such process")]
    Pid(u32),
    /// A thread's id was given.
    #[error("--pid {given}: that is a thread of process {process}; give --pid {process}")]
    Thread {
        /// What was given.
        given: u32,
        /// Its process.
        process: u32,
    },
    /// The kernel keeps shorter names.
    #[error("--comm {0}: the kernel keeps 15 bytes of a thread's name; give at most 15")]
    CommTooLong(String),
    /// No thread has an empty name, and no name has a NUL.
    #[error("--comm {0:?}: no thread has such a name")]
    Comm(String),
    /// The folder is not there, or is none.
    #[error(
        "--cgroup {0}: no such folder; give one below the cgroup2 mount, such as /sys/fs/cgroup/system.slice"
    )]
    NoCgroup(PathBuf),
    /// The folder is not of the unified hierarchy.
    #[error("--cgroup {0}: not in a cgroup2 file system (`mount -t cgroup2` shows where it is)")]
    NotCgroup2(PathBuf),
}

/// `--pid`: a running process.
///
/// # Errors
/// [`FilterError::Pid`] and [`FilterError::Thread`].
pub fn pid(pid: u32) -> Result<u32, FilterError> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
    let status = status.map_err(|_| FilterError::Pid(pid))?;
    let process = status
        .lines()
        .find_map(|line| line.strip_prefix("Tgid:")?.trim().parse().ok())
        .ok_or(FilterError::Pid(pid))?;
    if process == pid { Ok(pid) } else { Err(FilterError::Thread { given: pid, process }) }
}

/// `--comm`: a thread's name, NUL-padded as the kernel has it.
///
/// # Errors
/// [`FilterError::CommTooLong`] and [`FilterError::Comm`].
pub fn comm(name: &str) -> Result<[u8; COMM_LEN], FilterError> {
    if name.is_empty() || name.contains('\0') {
        return Err(FilterError::Comm(name.to_owned()));
    }
    let mut padded = [0; COMM_LEN];
    // The last byte stays NUL.
    match padded.get_mut(..name.len()) {
        Some(start) if name.len() < COMM_LEN => start.copy_from_slice(name.as_bytes()),
        _ => return Err(FilterError::CommTooLong(name.to_owned())),
    }
    Ok(padded)
}

/// `CGROUP2_SUPER_MAGIC` of include/uapi/linux/magic.h.
const CGROUP2_MAGIC: u64 = 0x6367_7270;

/// `--cgroup`: a folder of the unified hierarchy.
///
/// # Errors
/// [`FilterError::NoCgroup`] and [`FilterError::NotCgroup2`].
pub fn cgroup(path: &Path) -> Result<PathBuf, FilterError> {
    if !path.is_dir() {
        return Err(FilterError::NoCgroup(path.to_owned()));
    }
    let statfs = rustix::fs::statfs(path).map_err(|_| FilterError::NoCgroup(path.to_owned()))?;
    if u64::try_from(statfs.f_type) == Ok(CGROUP2_MAGIC) {
        Ok(path.to_owned())
    } else {
        Err(FilterError::NotCgroup2(path.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_padded_as_the_kernel_has_it() {
        assert_eq!(comm("dd"), Ok(*b"dd\0\0\0\0\0\0\0\0\0\0\0\0\0\0"));
        assert_eq!(comm("fifteen-letters"), Ok(*b"fifteen-letters\0"));
        assert!(matches!(comm("sixteen-letters!"), Err(FilterError::CommTooLong(_))));
        assert!(matches!(comm(&"x".repeat(400)), Err(FilterError::CommTooLong(_))));
        assert!(matches!(comm(""), Err(FilterError::Comm(_))));
    }

    #[test]
    fn this_process_is_there_and_another_is_not() {
        assert_eq!(pid(std::process::id()), Ok(std::process::id()));
        // Beyond PID_MAX_LIMIT (include/linux/threads.h).
        assert_eq!(pid(4_194_305), Err(FilterError::Pid(4_194_305)));
    }

    #[test]
    fn a_folder_elsewhere_is_no_cgroup() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(cgroup(folder.path()), Err(FilterError::NotCgroup2(folder.path().to_owned())));
        let absent = folder.path().join("absent");
        assert_eq!(cgroup(&absent), Err(FilterError::NoCgroup(absent.clone())));
    }
}
