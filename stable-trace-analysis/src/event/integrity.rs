//! Integrity errors: the failed check, its location, and the pages of the request.

use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;

use super::{PathFrom, Proof};
use crate::units::DeviceId;

/// The operation of a request.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, IntoStaticStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Operation {
    /// Reads data from the device.
    Read,
    /// Writes data to the device.
    Write,
}

/// Which of the three checks of protection information failed.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, IntoStaticStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Check {
    /// The guard tag: the checksum of the data.
    Guard,
    /// The application tag.
    ApplicationTag,
    /// The reference tag, which holds the address of the block: the data belongs to another block.
    ReferenceTag,
    /// The report does not name the check.
    Unknown,
}

/// The component that detected the error.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, IntoStaticStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Source {
    /// A SCSI disk or its host adapter; reported as sense data.
    Scsi,
    /// An NVMe controller; reported as a status code.
    Nvme,
    /// The host, when it verified the data of a read.
    Verify,
    /// The block layer, which reports a protection error without details.
    Block,
    /// A file system that keeps checksums of its own, when it verified data that it had read: btrfs.
    Filesystem,
}

/// The kind of owner of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PageKind {
    /// The page cache: the request writes back the page of a file or of a block device, or reads it.
    File,
    /// Anonymous memory of a process: a buffer of direct I/O.
    Anonymous,
    /// A page of a file or of shared memory that a process has mapped, and uses as a buffer of direct I/O.
    Shared,
    /// A page that is swapped out or in.
    Swap,
    /// None of these: kernel memory, such as a bounce buffer, metadata of a file system, or a page that left its
    /// file meanwhile.
    Unknown,
}

/// One page of the failed part of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// The kind of its owner.
    pub kind: PageKind,
    /// The device number of its file's subvolume. Only on btrfs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subvolume_dev: Option<DeviceId>,
    /// Inode of its file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ino: Option<u64>,
    /// Index of the page within its file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
    /// Kernel name of the device of its file. On a stacked device it is not the device that
    /// reported the error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// `major:minor` of that device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dev: Option<DeviceId>,
    /// Type of its file system; `bdev` for a block device's own page cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fs: Option<String>,
    /// Whether its mapping requires stable pages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable: Option<bool>,
}

impl Page {
    /// A page that belongs to no known file.
    pub const fn without_file(kind: PageKind) -> Self {
        Self {
            kind,
            subvolume_dev: None,
            ino: None,
            index: None,
            device: None,
            dev: None,
            fs: None,
            stable: None,
        }
    }
}

/// One failed check of protection information.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntegrityError {
    /// The operation of the request.
    pub op: Operation,
    /// Kernel name of the device that failed: the lowest device that knows of the error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// `major:minor` of the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dev: Option<DeviceId>,
    /// First sector of the failed part, in units of 512 bytes, counted on the whole disk. A command that user
    /// space passed through to the driver has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sector: Option<u64>,
    /// Length of the failed part in units of 512 bytes.
    pub sectors: u64,
    /// The check that failed.
    pub check: Check,
    /// The component that detected the error.
    pub source: Source,
    /// How long before the line's time the request began, in ns: when its protection information was made, or else
    /// when the block layer made the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began_ns_before: Option<u64>,
    /// What the data and its protection information prove; absent where they were not copied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Proof>,
    /// The error that the submitter gets, as an errno name: `EILSEQ`.
    pub status: String,
    /// The pages of the failed part, in the order of the request. The list is incomplete if
    /// `pages_total` is present.
    pub pages: Vec<Page>,
    /// Number of pages of the failed part, if `pages` does not list all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pages_total: Option<u64>,
    /// Type of the file system, if all pages belong to the same one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fs: Option<String>,
    /// Path of the file, if all pages belong to the same file and its path is certain, with ` (deleted)` appended
    /// if its name is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// What the path begins at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_from: Option<PathFrom>,
    /// Process that submitted the request, if the kernel still has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Thread that submitted the request, if the kernel still has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tid: Option<u32>,
    /// Name of that thread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comm: Option<String>,
}
