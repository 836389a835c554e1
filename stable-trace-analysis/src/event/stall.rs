//! Stalls: waits for the writeback of a folio.

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use strum::IntoStaticStr;

use crate::units::DeviceId;

/// Why a task waited for writeback.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, IntoStaticStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Context {
    /// For a buffered write to the folio.
    WriteBegin,
    /// For a store to the folio through a memory mapping.
    PageMkwrite,
    /// To make data durable or to remove the folio: `fsync`, `msync`, `sync_file_range`, truncation
    /// and the like. Stable pages do not cause it.
    Sync,
    /// For another reason: reclaim, migration, compaction, or an unknown stack.
    Other,
}

impl Context {
    /// Every context, in the order of reports.
    pub const ALL: [Self; 4] = [Self::WriteBegin, Self::PageMkwrite, Self::Sync, Self::Other];
}

/// What the path of an event begins at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PathFrom {
    /// The root of the agent's mount namespace: the path leads to the file.
    Mount,
    /// The root of the file system, which is not mounted in the agent's mount namespace.
    Filesystem,
}

/// One wait of one task for the writeback of one folio.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stall {
    /// Why the task waited.
    pub context: Context,
    /// The kernel function that waited, or the tracepoint.
    pub function: SmolStr,
    /// Duration of the wait in ns.
    pub duration_ns: u64,
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
    /// Type of the file system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fs: Option<SmolStr>,
    /// The process that serves the file system. Only on FUSE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_pid: Option<u32>,
    /// The device number of the file's subvolume, which is the `st_dev` of its files: inode numbers of
    /// subvolumes repeat. Only on btrfs.
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
