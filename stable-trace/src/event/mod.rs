//! The event stream: what one run says, an object a line.
//!
//! These types are the contract that users script against. A field may be added; one that stands
//! here keeps its name, its unit and its meaning. What could not be known is absent, never invented.

mod association;
mod integrity;
mod summary;
mod verdict;
mod workload;
mod workload_errors;

use serde::{Deserialize, Serialize};

pub use association::{Association, Latency};
pub use integrity::{Check, IntegrityError, Operation, Page, PageKind, Source};
pub use summary::{IntegritySummary, StallSummary, Summary, UnstableSummary, VerdictSummary};
pub use verdict::{Cause, Verdict};
pub use workload::{ModeCount, Workload, WorkloadState};
pub use workload_errors::{ErrorInterval, Failed, WorkloadErrors};

use crate::kernel::preemption::Preemption;

/// The form of the stream that this version writes, and the newest that it reads. It rises only when
/// something that stands here changes its meaning, never for what is added.
pub const FORMAT: u32 = 1;

/// One line of the stream: an [`Event`] with its place and its time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Counts up from 1 within a run, without gaps.
    pub seq: u64,
    /// RFC 3339 in UTC with nanoseconds: when it happened (for a stall: when it ended).
    pub time: String,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// Everything a run can say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// The first line: where this is, and what is attached.
    Start(Start),
    /// One wait of one task for one folio's writeback.
    Stall(Stall),
    /// A page given to a writer while it was under writeback.
    UnstableWrite(UnstableWrite),
    /// A failed check of protection information.
    Integrity(IntegrityError),
    /// What caused an integrity failure.
    Verdict(Verdict),
    /// What the paired workload does.
    Workload(Workload),
    /// Lines that the ring buffer had no room for.
    Lost(Lost),
    /// The last line: everything counted.
    Summary(Summary),
}

/// The first line of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// [`FORMAT`] of whoever wrote it; 0 where nobody said.
    #[serde(default)]
    pub format: u32,
    /// Version of stable-trace.
    pub version: String,
    /// Kernel release, as `uname -r` prints it.
    pub kernel: String,
    /// Machine, as `uname -m` prints it.
    pub arch: String,
    /// Node name, as `uname -n` prints it.
    pub hostname: String,
    /// Whether the kernel preempts itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preemption: Option<Preemption>,
    /// `--min-latency` in ns: shorter stalls are counted, but are not in the stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_latency_ns: Option<u64>,
    /// `--window` in ns: how long before an integrity error what happened counts for its verdict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_ns: Option<u64>,
    /// Every probe of the plan, attached or not.
    pub probes: Vec<Probe>,
    /// Every block device at the start.
    pub devices: Vec<Device>,
    /// Whether only some waiters and writers are traced: `--pid`, `--comm`, `--cgroup`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub filtered: bool,
    /// `major:minor` of the disks of `--device`; empty for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub only_devices: Vec<String>,
    /// Where metrics are served, as a URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<String>,
}

/// The question that a set of probes answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// Waits for a folio's writeback.
    WritebackWait,
    /// Buffered writes that take a folio to write to.
    WriteBegin,
    /// Write faults on mapped folios.
    PageMkwrite,
    /// Completions that failed their integrity check.
    Integrity,
}

/// How a probe attaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// fentry or fexit: a trampoline at the function.
    Fentry,
    /// A kprobe or kretprobe.
    Kprobe,
    /// A tracepoint, classic or raw.
    Tracepoint,
}

impl Method {
    /// The name that the contract gives it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fentry => "fentry",
            Self::Kprobe => "kprobe",
            Self::Tracepoint => "tracepoint",
        }
    }
}

impl Group {
    /// The name that the contract gives it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::WritebackWait => "writeback_wait",
            Self::WriteBegin => "write_begin",
            Self::PageMkwrite => "page_mkwrite",
            Self::Integrity => "integrity",
        }
    }
}

/// One probe of the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// The question it helps to answer.
    pub group: Group,
    /// The probed function, or `system:name` of a tracepoint.
    pub function: String,
    /// How it attaches.
    pub method: Method,
    /// Whether it did.
    pub attached: bool,
    /// Why it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A block device and what it asks of the page cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// The kernel's name: `sda`, `nvme0n1`, `loop0`.
    pub device: String,
    /// `major:minor`.
    pub dev: String,
    /// Whether pages under writeback to it must not change: `queue/stable_writes`, or that it
    /// carries checksums (from 6.12 on integrity alone forces stability).
    pub stable_writes: bool,
    /// Its protection information, where it has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub integrity: Option<Protection>,
}

/// A device's protection information, from `/sys/block/DEV/integrity`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protection {
    /// `integrity/format`, such as `T10-DIF-TYPE1-CRC`.
    pub format: String,
    /// `integrity/tag_size`: bytes of application tag.
    pub tag_size: u32,
    /// `integrity/protection_interval_bytes`: data bytes that one tuple protects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_bytes: Option<u32>,
}

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
    pub dev: Option<String>,
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
    pub dev: Option<String>,
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

/// Lines that the ring buffer had no room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// How many since the last such line.
    pub count: u64,
    /// The last line before the loss was noticed.
    pub since_seq: u64,
    /// How long before this line's time none of them was lost yet, in ns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within_ns: Option<u64>,
}

impl Event {
    /// The value of `type`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Start(_) => "start",
            Self::Stall(_) => "stall",
            Self::UnstableWrite(_) => "unstable_write",
            Self::Integrity(_) => "integrity",
            Self::Verdict(_) => "verdict",
            Self::Workload(_) => "workload",
            Self::Lost(_) => "lost",
            Self::Summary(_) => "summary",
        }
    }
}
