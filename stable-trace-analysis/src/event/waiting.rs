//! Waits that have not ended.

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use strum::IntoStaticStr;

use super::{Context, PathFrom, Stall};
use crate::units::DeviceId;

/// What a task does, by the letter in `/proc/PID/stat` (`task_state_array`, fs/proc/array.c, 5.10 to 7.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum TaskState {
    /// `R`: it runs, or could.
    Running,
    /// `S`, `I`: it waits for something to do.
    Sleeping,
    /// `D`: it waits for a device or a lock.
    Waiting,
    /// `T`, `t`: a signal or a debugger has stopped it.
    Stopped,
    /// `Z`, `X`: it has ended.
    Dead,
}

impl TaskState {
    /// The state of a letter; `None` for one that is not known.
    pub const fn of_letter(letter: char) -> Option<Self> {
        Some(match letter {
            'R' => Self::Running,
            'S' | 'I' => Self::Sleeping,
            'D' => Self::Waiting,
            'T' | 't' => Self::Stopped,
            'Z' | 'X' => Self::Dead,
            _ => return None,
        })
    }
}

/// A wait that has lasted longer than `--stuck-after`. Told once while it lasts, and once when it is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// Why the task waits.
    pub context: Context,
    /// The kernel function that waits, or the tracepoint.
    pub function: SmolStr,
    /// For how long it has waited, in ns.
    pub age_ns: u64,
    /// Whether the wait is over. `age_ns` is then at most a second more than the wait lasted; its `stall` has the exact
    /// time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ended: bool,
    /// Process id of the waiter.
    pub pid: u32,
    /// Thread id of the waiter.
    pub tid: u32,
    /// Name of the waiter's thread.
    pub comm: SmolStr,
    /// Name of the waiter's process: that of its first thread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<SmolStr>,
    /// The waiter's cgroup, as an inode number; absent where the hierarchy is v1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup_id: Option<u64>,
    /// Path of that cgroup from the root of the hierarchy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<SmolStr>,
    /// Container id, or uid of a pod, from the path of the cgroup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<SmolStr>,
    /// Kernel name of the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<SmolStr>,
    /// `major:minor` of the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dev: Option<DeviceId>,
    /// Number of writes that the device was given and has not completed. 0: the page's write has not reached it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writes_in_flight: Option<u32>,
    /// Type of the file system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fs: Option<SmolStr>,
    /// The process that serves the file system. Only on FUSE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_pid: Option<u32>,
    /// What that process does. Only on FUSE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_state: Option<TaskState>,
    /// The device number of the file's subvolume. Only on btrfs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subvolume_dev: Option<DeviceId>,
    /// Inode of the file within its file system, or its subvolume; absent for swap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ino: Option<u64>,
    /// Index of the page within the file.
    pub index: u64,
    /// Path of the file, with ` (deleted)` appended if its name is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<SmolStr>,
    /// What the path begins at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_from: Option<PathFrom>,
    /// Kernel functions, the innermost first; with `--stacks`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack: Option<Vec<String>>,
}

/// The wait so far, as the stall that it would be if it ended now.
impl From<Stall> for Waiting {
    fn from(stall: Stall) -> Self {
        Self {
            context: stall.context,
            function: stall.function,
            age_ns: stall.duration_ns,
            ended: false,
            pid: stall.pid,
            tid: stall.tid,
            comm: stall.comm,
            process: stall.process,
            cgroup_id: stall.cgroup_id,
            cgroup: stall.cgroup,
            container: stall.container,
            device: stall.device,
            dev: stall.dev,
            writes_in_flight: None,
            fs: stall.fs,
            server_pid: stall.server_pid,
            server_state: None,
            subvolume_dev: stall.subvolume_dev,
            ino: stall.ino,
            index: stall.index,
            path: stall.path,
            path_from: stall.path_from,
            stack: stall.stack,
        }
    }
}
