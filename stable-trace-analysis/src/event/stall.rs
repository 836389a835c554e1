//! Stalls: waits for a folio's writeback.

use serde::{Deserialize, Serialize};

use crate::units::DeviceId;

/// Why a task waited for writeback.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Context {
    /// A buffered write wanted to change the folio.
    WriteBegin,
    /// A store to mapped memory wanted to change the folio.
    PageMkwrite,
    /// Somebody asked for the data to be on the medium, or took the folio away: `fsync`, `msync`,
    /// `sync_file_range`, truncation and the like. Stable pages did not cause it.
    Sync,
    /// Anything else: reclaim, migration, compaction, or a stack that tells nothing.
    Other,
}

impl Context {
    /// Every context, in the order of reports.
    pub const ALL: [Self; 4] = [Self::WriteBegin, Self::PageMkwrite, Self::Sync, Self::Other];

    /// The name that the contract gives it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::WriteBegin => "write_begin",
            Self::PageMkwrite => "page_mkwrite",
            Self::Sync => "sync",
            Self::Other => "other",
        }
    }
}

/// One wait of one task for one folio's writeback.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stall {
    /// Why it waited.
    pub context: Context,
    /// The function that a file-system developer would name, or the tracepoint.
    pub function: String,
    /// How long it did not run, in ns.
    pub duration_ns: u64,
    /// Process of the waiter.
    pub pid: u32,
    /// Thread of the waiter.
    pub tid: u32,
    /// Name of the waiter's thread.
    pub comm: String,
    /// The waiter's cgroup (v2), as an inode number.
    pub cgroup_id: u64,
    /// The kernel's name of the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// `major:minor` of the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dev: Option<DeviceId>,
    /// Type of the file system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fs: Option<String>,
    /// Inode of the file within its file system.
    pub ino: u64,
    /// Index of the page within the file.
    pub index: u64,
    /// Path of the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Kernel functions from the innermost out, with `--stacks`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack: Option<Vec<String>>,
}
