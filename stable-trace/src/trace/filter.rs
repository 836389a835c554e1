//! Checks `--pid`, `--comm` and `--cgroup` before anything attaches.

use std::path::{Path, PathBuf};

use stable_trace_common::task::COMM_LEN;

/// Why a filter option is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum FilterError {
    #[error("--pid {0}: no such process")]
    Pid(u32),
    #[error("--pid {given}: this is a thread of process {process}; give --pid {process}")]
    Thread { given: u32, process: u32 },
    #[error("--comm {0}: the kernel keeps 15 bytes of a thread's name; give at most 15")]
    CommTooLong(String),
    /// The name is empty or contains a NUL.
    #[error("--comm {0:?}: no thread can have this name")]
    Comm(String),
    #[error(
        "--cgroup {0}: no such directory; give one below the cgroup2 mount, such as /sys/fs/cgroup/system.slice"
    )]
    NoCgroup(PathBuf),
    #[error("--cgroup {0}: not in a cgroup2 file system (`mount -t cgroup2` shows where it is)")]
    NotCgroup2(PathBuf),
}

/// Checks `--pid`: the id of a running process.
pub(crate) fn pid(pid: u32) -> Result<u32, FilterError> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
    let status = status.map_err(|_| FilterError::Pid(pid))?;
    let process = status
        .lines()
        .find_map(|line| line.strip_prefix("Tgid:")?.trim().parse().ok())
        .ok_or(FilterError::Pid(pid))?;
    if process == pid { Ok(pid) } else { Err(FilterError::Thread { given: pid, process }) }
}

/// Checks `--comm`, and pads the name with NUL as the kernel does.
pub(crate) fn comm(name: &str) -> Result<[u8; COMM_LEN], FilterError> {
    if name.is_empty() || name.contains('\0') {
        return Err(FilterError::Comm(name.to_owned()));
    }
    let mut padded = [0; COMM_LEN];
    // The kernel's last byte is always NUL.
    match padded.get_mut(..name.len()) {
        Some(start) if name.len() < COMM_LEN => start.copy_from_slice(name.as_bytes()),
        _ => return Err(FilterError::CommTooLong(name.to_owned())),
    }
    Ok(padded)
}

/// `CGROUP2_SUPER_MAGIC` of include/uapi/linux/magic.h.
const CGROUP2_MAGIC: u64 = 0x6367_7270;

/// Checks `--cgroup`: a directory of the unified hierarchy (cgroup v2).
pub(crate) fn cgroup(path: &Path) -> Result<PathBuf, FilterError> {
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
    fn a_thread_name_is_padded_with_nul() {
        assert_eq!(comm("dd"), Ok(*b"dd\0\0\0\0\0\0\0\0\0\0\0\0\0\0"));
        assert_eq!(comm("fifteen-letters"), Ok(*b"fifteen-letters\0"));
        assert!(matches!(comm("sixteen-letters!"), Err(FilterError::CommTooLong(_))));
        assert!(matches!(comm(&"x".repeat(400)), Err(FilterError::CommTooLong(_))));
        assert!(matches!(comm(""), Err(FilterError::Comm(_))));
    }

    #[test]
    fn a_pid_must_belong_to_a_running_process() {
        assert_eq!(pid(std::process::id()), Ok(std::process::id()));
        // Beyond PID_MAX_LIMIT (include/linux/threads.h).
        assert_eq!(pid(4_194_305), Err(FilterError::Pid(4_194_305)));
    }

    #[test]
    fn a_directory_outside_cgroup2_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(
            cgroup(directory.path()),
            Err(FilterError::NotCgroup2(directory.path().to_owned()))
        );
        let absent = directory.path().join("absent");
        assert_eq!(cgroup(&absent), Err(FilterError::NoCgroup(absent.clone())));
    }
}
