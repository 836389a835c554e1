//! The first line: the machine, the probes and the devices.

use serde::{Deserialize, Serialize};

use crate::units::DeviceId;

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
    pub only_devices: Vec<DeviceId>,
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
    pub dev: DeviceId,
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

/// The model in force (`sched_dynamic_show`, kernel/sched/debug.c, 5.12 to 7.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preemption {
    /// Not in the kernel, or only where it offers itself.
    Voluntary,
    /// Nearly everywhere, some at the next tick only.
    Full,
    /// There is no telling: an older kernel, or one whose model is fixed.
    #[default]
    Unknown,
}
