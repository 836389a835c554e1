//! The first line: the machine, the probes and the devices.

use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;

use super::Risk;
use crate::units::DeviceId;

/// The first line of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// [`FORMAT`](super::FORMAT) of the program that wrote the stream; 0 if absent.
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
    /// Preemption model of the kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preemption: Option<Preemption>,
    /// `--min-latency` in ns: shorter stalls are counted, but not streamed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_latency_ns: Option<u64>,
    /// `--window` in ns: the correlation window before an integrity error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_ns: Option<u64>,
    /// Every probe of the plan, attached or not.
    pub probes: Vec<Probe>,
    /// Every block device at the start of the run.
    pub devices: Vec<Device>,
    /// Which stalls the filters select, as in `--pid 4711 and its descendants`; absent for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// Whether a filter excludes unstable writes that a verdict rests on. Up to version 0.1 the filters
    /// of tasks did; now none does.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub filtered: bool,
    /// `major:minor` of the disks of `--device`; empty if all devices are traced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub only_devices: Vec<DeviceId>,
    /// URL of the metrics endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<String>,
}

/// The question that a group of probes answers.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, IntoStaticStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Group {
    /// Which tasks wait for the writeback of a folio?
    WritebackWait,
    /// Which buffered writes get a folio under writeback?
    WriteBegin,
    /// Which write faults get a folio under writeback?
    PageMkwrite,
    /// Which requests fail their integrity check?
    Integrity,
}

/// How a probe attaches.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, IntoStaticStr,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Method {
    /// fentry or fexit.
    Fentry,
    /// A kprobe or kretprobe.
    Kprobe,
    /// A tracepoint, classic or raw.
    Tracepoint,
}

/// One probe of the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// The group of the probe.
    pub group: Group,
    /// The probed function, or `system:name` of a tracepoint.
    pub function: String,
    /// How it attaches.
    pub method: Method,
    /// Whether it is attached.
    pub attached: bool,
    /// Why it is not attached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A block device, and what it requires of the page cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Kernel name, such as `sda`, `nvme0n1` or `loop0`.
    pub device: String,
    /// `major:minor`.
    pub dev: DeviceId,
    /// Whether it requires stable pages: `queue/stable_writes` is set, or the device has an
    /// integrity profile (from 6.12 on that alone requires stable pages).
    pub stable_writes: bool,
    /// Its protection information, if it has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub integrity: Option<Protection>,
    /// What it rests on itself; absent if it is not known to rest on unchanged data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub risk: Option<Risk>,
}

/// A device's protection information, from `/sys/block/DEV/integrity`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protection {
    /// `integrity/format`, such as `T10-DIF-TYPE1-CRC`.
    pub format: String,
    /// `integrity/tag_size`: bytes of the application tag.
    pub tag_size: u32,
    /// `integrity/protection_interval_bytes`: data bytes per tuple.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_bytes: Option<u32>,
}

impl Protection {
    /// Whether it is checked: `nop` is metadata that nothing checks.
    pub fn is_checked(&self) -> bool {
        self.format != "nop"
    }
}

/// The preemption model in force (`sched_dynamic_show`, kernel/sched/debug.c, 5.12 to 7.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preemption {
    /// `none` or `voluntary`: no preemption in the kernel, or only at explicit points.
    Voluntary,
    /// `full` or `lazy`: preemption nearly everywhere, with `lazy` in part at the next tick.
    Full,
    /// Unknown: the kernel is older than 5.12, or its model is fixed.
    #[default]
    Unknown,
}
