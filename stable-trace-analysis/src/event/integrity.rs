//! Integrity failures: what failed, where, and whose pages they were.

use serde::{Deserialize, Serialize};

use crate::units::DeviceId;

/// What a request wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Data from the device.
    Read,
    /// Data to the device.
    Write,
}

impl Operation {
    /// The name that the contract gives it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// Which of the three checks of protection information failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// The checksum over the data.
    Guard,
    /// What the application marked the block with.
    ApplicationTag,
    /// The block's address: the data of another block.
    ReferenceTag,
    /// Whoever reported the failure did not say.
    Unknown,
}

impl Check {
    /// The name that the contract gives it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Guard => "guard",
            Self::ApplicationTag => "application_tag",
            Self::ReferenceTag => "reference_tag",
            Self::Unknown => "unknown",
        }
    }
}

/// Who noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A SCSI disk or its host adapter, by sense data.
    Scsi,
    /// An NVMe controller, by its status.
    Nvme,
    /// The host, which verified what it had read.
    Verify,
    /// The block layer, which knows no more than that protection failed.
    Block,
}

impl Source {
    /// The name that the contract gives it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scsi => "scsi",
            Self::Nvme => "nvme",
            Self::Verify => "verify",
            Self::Block => "block",
        }
    }
}

/// Whose a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PageKind {
    /// The page cache's: a part of a file, or of a block device.
    File,
    /// A process's own memory: a buffer of direct I/O.
    Anonymous,
    /// Neither: the kernel's own, such as a bounce buffer, or taken from its file meanwhile.
    Unknown,
}

/// One page of the failed part of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// Whose it is.
    pub kind: PageKind,
    /// Inode of its file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ino: Option<u64>,
    /// Index of the page within its file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
    /// The kernel's name of the device that its file is on; another than the failed one's for a
    /// file system on a stacked device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// `major:minor` of that device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dev: Option<DeviceId>,
    /// Type of its file system; `bdev` for a block device's own page cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fs: Option<String>,
    /// Whether its mapping requires that it does not change while under writeback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable: Option<bool>,
}

/// One failed check of protection information.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntegrityError {
    /// What the request wanted.
    pub op: Operation,
    /// The kernel's name of the device that failed: the lowest that knows of the failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// `major:minor` of the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dev: Option<DeviceId>,
    /// First sector of the failed part, in units of 512 bytes, counted on the whole disk.
    pub sector: u64,
    /// Length of the failed part in units of 512 bytes.
    pub sectors: u64,
    /// Which check failed.
    pub check: Check,
    /// Who noticed.
    pub source: Source,
    /// What the caller is told: `EILSEQ`.
    pub status: String,
    /// The pages of the failed part, in the order of the request. Not all of them if
    /// `pages_total` says more.
    pub pages: Vec<Page>,
    /// How many pages the failed part has, if `pages` has fewer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pages_total: Option<u64>,
    /// Type of the file system, if all pages are of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fs: Option<String>,
    /// Path of the file, if all pages are of one and its path could be found without guessing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Process that submitted the request, where the kernel still knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Thread that submitted the request, where the kernel still knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tid: Option<u32>,
    /// Name of that thread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comm: Option<String>,
}
