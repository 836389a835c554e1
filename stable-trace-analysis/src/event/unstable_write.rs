//! Unstable writes: writes to pages under writeback.

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use strum::IntoStaticStr;

use super::{Context, PathFrom};
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
    /// The mapping does not require stable pages, but a device below checks what it is given.
    Hole,
    /// No device below checks.
    Harmless,
}

/// What is below a page, and rests on data that does not change on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Risk {
    /// A disk with protection information.
    ProtectionInformation,
    /// Checksums that the kernel makes, of dm-integrity or btrfs: a later read may fail.
    Checksums,
    /// Copies of a RAID1 or RAID10, which may then differ.
    Mirrors,
}

impl Risk {
    /// Whether something below finds a change of the data.
    pub const fn is_checked(self) -> bool {
        matches!(self, Self::ProtectionInformation | Self::Checksums)
    }
}

/// A page that a writer got while it was under writeback.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnstableWrite {
    /// `write_begin` or `page_mkwrite`.
    pub context: Context,
    /// Its significance.
    pub grade: Grade,
    /// What a change of the page may break; absent if nothing below is known to rest on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub risk: Option<Risk>,
    /// The kernel function that gave the page to the writer.
    pub function: SmolStr,
    /// Process id of the writer.
    pub pid: u32,
    /// Thread id of the writer.
    pub tid: u32,
    /// Name of the writer's thread.
    pub comm: SmolStr,
    /// Name of the writer's process: that of its first thread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<SmolStr>,
    /// The writer's cgroup, as an inode number; absent where the hierarchy is v1.
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
    /// Type of the file system; `bdev` for a block device's own page cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fs: Option<SmolStr>,
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
