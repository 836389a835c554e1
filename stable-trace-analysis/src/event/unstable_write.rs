//! Unstable writes: writes to pages under writeback.

use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;

use super::Context;
use crate::units::DeviceId;

/// The significance of an unstable write.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, IntoStaticStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Grade {
    /// The mapping requires stable pages: the kernel violated its guarantee.
    Violation,
    /// The mapping does not require stable pages, but a device below checks integrity.
    Hole,
    /// No device below checks integrity.
    Harmless,
}

/// A page that a writer got while it was under writeback.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnstableWrite {
    /// `write_begin` or `page_mkwrite`.
    pub context: Context,
    /// Its significance.
    pub grade: Grade,
    /// The kernel function that gave the page to the writer.
    pub function: String,
    /// Process id of the writer.
    pub pid: u32,
    /// Thread id of the writer.
    pub tid: u32,
    /// Name of the writer's thread.
    pub comm: String,
    /// The writer's cgroup (v2), as an inode number.
    pub cgroup_id: u64,
    /// Kernel name of the device.
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
    /// Kernel functions, the innermost first; with `--stacks`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack: Option<Vec<String>>,
}
