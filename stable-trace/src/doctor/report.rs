//! The report, as `doctor --format json` prints it.

use std::{collections::BTreeMap, error::Error};

use serde::{Deserialize, Serialize};
use stable_trace_analysis::{
    error_chain::ErrorChain,
    event::{Device, Group, Method, Probe},
};

use crate::kernel::{lockdown::Lockdown, privileges::Capability};

/// Attached as a raw tracepoint: no record is read, so neither tracefs nor a format is needed.
pub(super) const SCHED_SWITCH: &str = "sched:sched_switch";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Report {
    /// As `uname -r` prints it.
    pub(super) kernel: String,
    /// As `uname -m` prints it.
    pub(super) arch: String,
    pub(super) privileges: Privileges,
    pub(super) btf: Availability,
    /// `none`, `integrity`, `confidentiality` or `unknown`.
    pub(super) lockdown: Lockdown,
    /// Functions of `/proc/kallsyms`.
    pub(super) symbols: Availability,
    pub(super) tracefs: Availability,
    /// The ways to attach a program, by trial.
    pub(super) methods: Vec<AttachMethod>,
    /// The tracepoints whose record is read.
    pub(super) tracepoints: Vec<Tracepoint>,
    /// The probes of the plan; `attached` tells whether a run would attach them.
    pub(super) probes: Vec<Probe>,
    pub(super) devices: Vec<Device>,
    /// Where file systems of btrfs with checksums of data are mounted, each once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) btrfs: Vec<BtrfsMount>,
    /// The most serious first.
    pub(super) problems: Vec<Problem>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Privileges {
    /// The effective user.
    pub(super) uid: u32,
    /// The effective capabilities, of those that tracing can use.
    pub(super) held: Vec<Capability>,
    /// The capabilities that tracing needs and the process lacks.
    pub(super) missing: Vec<Capability>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Availability {
    pub(super) available: bool,
    /// Its size or path, or the reason why it is not available.
    pub(super) detail: String,
}

impl Availability {
    pub(super) fn yes(detail: impl Into<String>) -> Self {
        Self { available: true, detail: detail.into() }
    }

    pub(super) fn no(reason: impl Into<String>) -> Self {
        Self { available: false, detail: reason.into() }
    }

    pub(super) fn of(found: Result<String, impl Error + 'static>) -> Self {
        match found {
            Ok(detail) => Self::yes(detail),
            Err(error) => Self::no(ErrorChain(&error).to_string()),
        }
    }
}

/// A file system of btrfs that makes checksums of data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BtrfsMount {
    /// The mount point.
    pub(super) path: String,
    /// Whether its checksums hold if a process changes the buffer of a direct write; `None` if the release does not
    /// tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) direct_writes_protected: Option<bool>,
}

/// A way to attach a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct AttachMethod {
    /// `fentry`, `kprobe`, `tracepoint` or `raw_tracepoint`.
    pub(super) name: String,
    pub(super) available: bool,
    /// Why it is not available.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
    /// What would make it available.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) remedy: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tracepoint {
    /// `system:name`.
    pub(super) name: String,
    /// Offsets in bytes of the fields that are read.
    pub(super) fields: BTreeMap<String, u32>,
    /// Why the record cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Problem {
    pub(super) what: String,
    /// What the problem prevents.
    pub(super) cost: String,
    pub(super) remedy: String,
}

impl Report {
    /// Whether tracing can work: programs can be loaded, and both the start and the end of a wait
    /// for writeback would be observed. Decides the exit status.
    pub(crate) fn can_trace(&self) -> bool {
        let wait_probes = || {
            let attached = self.probes.iter().filter(|probe| probe.attached);
            attached.filter(|probe| probe.group == Group::WritebackWait)
        };
        let switch = wait_probes().any(|probe| probe.function == SCHED_SWITCH);
        // The tracepoint of the wait function fires at the start of a wait only.
        let observes_end = |probe: &Probe| probe.method != Method::Tracepoint || switch;
        self.privileges.missing.is_empty()
            && self.lockdown != Lockdown::Confidentiality
            && wait_probes().any(|probe| probe.function != SCHED_SWITCH && observes_end(probe))
    }

    pub(super) fn method(&self, name: &str) -> Option<&AttachMethod> {
        self.methods.iter().find(|method| method.name == name)
    }
}
