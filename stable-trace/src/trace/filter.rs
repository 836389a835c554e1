//! Checks `--pid`, `--comm`, `--cgroup` and `--label` before anything attaches, and describes the filters.

use std::path::{Path, PathBuf};

use stable_trace_analysis::units::DeviceId;
use stable_trace_common::task::COMM_LEN;

use crate::{
    kernel::{
        mountinfo::{self, Mount},
        pid_namespace,
    },
    probes::load::{Scope, Settings},
};

/// Why a filter option is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum FilterError {
    #[error("--pid {0}: no such process")]
    Pid(u32),
    #[error("--pid {given}: this is a thread of process {process}; give --pid {process}")]
    Thread { given: u32, process: u32 },
    #[error(
        "--pid {0}: /proc shows the pids of another PID namespace; mount it anew (`mount -t proc proc /proc`)"
    )]
    Proc(u32),
    #[error("--comm {0}: the kernel keeps 15 bytes of a thread's name; give at most 15")]
    CommTooLong(String),
    /// The name is empty or contains a NUL.
    #[error("--comm {0:?}: no thread can have this name")]
    Comm(String),
    #[error("--cgroup {path}: no such directory; {advice}")]
    NoCgroup { path: PathBuf, advice: String },
    #[error("--cgroup {path}: not in the unified hierarchy (cgroup2); {advice}")]
    NotCgroup2 { path: PathBuf, advice: String },
    #[error("--label cgroup: the unified hierarchy (cgroup2) is missing; {0}")]
    NoUnifiedHierarchy(&'static str),
}

/// Which stalls the filters select; `None` if there are no filters. `follows`: the programs follow
/// descendants.
pub(super) fn describe(settings: &Settings, follows: bool, devices: &[DeviceId]) -> Option<String> {
    let mut filters = Vec::new();
    match settings.scope {
        Scope::Process(pid) if follows => filters.push(format!("--pid {pid} and its descendants")),
        Scope::Process(pid) => filters.push(format!("--pid {pid}")),
        Scope::Command if follows => filters.push("the command and its descendants".to_owned()),
        Scope::Command | Scope::Everybody => {}
    }
    if let Some(comm) = settings.comm {
        let name = String::from_utf8_lossy(&comm);
        filters.push(format!("--comm {}", name.trim_end_matches('\0')));
    }
    if let Some(path) = &settings.cgroup {
        filters.push(format!("--cgroup {}", path.display()));
    }
    filters.extend(devices.iter().map(|device| format!("--device {device}")));
    (!filters.is_empty()).then(|| filters.join(", "))
}

/// Checks `--pid`: the id of a running process in this process's PID namespace.
pub(crate) fn pid(pid: u32) -> Result<u32, FilterError> {
    if !pid_namespace::is_mounted() {
        return Err(FilterError::Proc(pid));
    }
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
    let Ok(statfs) = rustix::fs::statfs(path) else {
        return Err(FilterError::NoCgroup { path: path.to_owned(), advice: cgroup_advice() });
    };
    if !path.is_dir() {
        return Err(FilterError::NoCgroup { path: path.to_owned(), advice: cgroup_advice() });
    }
    if u64::try_from(statfs.f_type) == Ok(CGROUP2_MAGIC) {
        Ok(path.to_owned())
    } else {
        Err(FilterError::NotCgroup2 { path: path.to_owned(), advice: cgroup_advice() })
    }
}

/// Checks `--label cgroup`: the unified hierarchy is mounted.
pub(crate) fn cgroup_label() -> Result<(), FilterError> {
    unified_hierarchy().map(|_| ()).ok_or(FilterError::NoUnifiedHierarchy(NOT_MOUNTED))
}

/// Where the unified hierarchy is mounted: beside those of v1 it has a mount of its own.
fn unified_hierarchy() -> Option<Mount> {
    let mounts = mountinfo::read().unwrap_or_default();
    mounts.into_iter().find(|mount| mount.fs == "cgroup2")
}

fn cgroup_advice() -> String {
    unified_hierarchy().map_or_else(
        || NOT_MOUNTED.to_owned(),
        |mount| format!("give a directory below {}", mount.point),
    )
}

/// The advice where there is no unified hierarchy.
const NOT_MOUNTED: &str = "none is mounted here (`mount -t cgroup2 none /mnt` mounts it)";

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
        let refused = cgroup(directory.path());
        assert!(matches!(refused, Err(FilterError::NotCgroup2 { .. })), "{refused:?}");
        let refused = cgroup(&directory.path().join("absent"));
        assert!(matches!(refused, Err(FilterError::NoCgroup { .. })), "{refused:?}");
    }
}
