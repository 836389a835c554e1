//! Unstable writes: pages given to a writer while under writeback.

use serde::{Deserialize, Serialize};

use super::Context;
use crate::units::DeviceId;

/// What a page that changes under writeback means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grade {
    /// Its mapping requires stable pages: the kernel broke its word.
    Violation,
    /// Its mapping does not require them, but a device below checks integrity.
    Hole,
    /// Nobody checks.
    Harmless,
}

impl Grade {
    /// The name that the contract gives it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Violation => "violation",
            Self::Hole => "hole",
            Self::Harmless => "harmless",
        }
    }
}

/// A page given to a writer while it was under writeback.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnstableWrite {
    /// `write_begin` or `page_mkwrite`.
    pub context: Context,
    /// What it means.
    pub grade: Grade,
    /// The function that a file-system developer would name.
    pub function: String,
    /// Process of the writer.
    pub pid: u32,
    /// Thread of the writer.
    pub tid: u32,
    /// Name of the writer's thread.
    pub comm: String,
    /// The writer's cgroup (v2), as an inode number.
    pub cgroup_id: u64,
    /// The kernel's name of the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// `major:minor` of the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dev: Option<DeviceId>,
    /// Type of the file system; `bdev` for a block device's own page cache.
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
