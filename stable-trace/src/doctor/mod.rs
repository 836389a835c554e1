//! `stable-trace doctor`: what this kernel, these devices and these privileges offer.
//!
//! It attaches nothing that stays and mounts nothing that others see.

mod problems;
mod text;

use std::{collections::BTreeMap, path::Path};

use serde::{Deserialize, Serialize};
use stable_trace_analysis::event::{Device, Group, Method, Probe};

use crate::kernel::{
    btf::{self, Btf, BtfError},
    devices,
    feature_probe::{AttachMethods, Refusal},
    lockdown::Lockdown,
    privileges::{Capability, Privileges},
    release::{Release, System},
    symbols::Symbols,
    tracefs::{self, TracefsError},
    tracepoint::{Format, FormatError, WAIT_FIELDS, WAIT_SYSTEM},
};

/// What `doctor --format json` prints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Kernel release, as `uname -r` prints it.
    pub kernel: String,
    /// Machine, as `uname -m` prints it.
    pub arch: String,
    /// What we may do.
    pub privileges: PrivilegesFound,
    /// The kernel's own type information.
    pub btf: Found,
    /// `none`, `integrity`, `confidentiality` or `unknown`.
    pub lockdown: Lockdown,
    /// Functions of `/proc/kallsyms`.
    pub symbols: Found,
    /// Where tracepoints are described.
    pub tracefs: Found,
    /// Ways to attach, each tried.
    pub methods: Vec<MethodFound>,
    /// The tracepoints that are read by field.
    pub tracepoints: Vec<TracepointFound>,
    /// The probes of the plan; `attached` says whether it would be.
    pub probes: Vec<Probe>,
    /// Every block device.
    pub devices: Vec<Device>,
    /// What is missing, the gravest first.
    pub problems: Vec<Problem>,
}

/// What this process may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrivilegesFound {
    /// The effective user.
    pub uid: u32,
    /// Effective capabilities that tracing may use.
    pub held: Vec<Capability>,
    /// Capabilities without which nothing can be traced.
    pub missing: Vec<Capability>,
}

/// Whether a thing is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// Whether it is.
    pub available: bool,
    /// How much or where, or why not.
    pub detail: String,
}

/// Whether a way to attach works here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MethodFound {
    /// `fentry`, `kprobe`, `tracepoint` or `raw_tracepoint`.
    pub name: String,
    /// Whether the trial went well.
    pub available: bool,
    /// Why it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What would change that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// A tracepoint whose record is read by field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TracepointFound {
    /// `system:name`.
    pub name: String,
    /// The needed fields that it has: where each begins in the record, in bytes.
    pub fields: BTreeMap<String, u32>,
    /// Why it cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Something that is missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What it is.
    pub what: String,
    /// What cannot be seen for it.
    pub cost: String,
    /// What to do.
    pub remedy: String,
}

impl Report {
    /// Whether tracing can work: we may load programs, and the beginning and the end of a wait for
    /// writeback would be seen. Decides the exit status.
    #[must_use]
    pub fn can_trace(&self) -> bool {
        let waits = || {
            let attached = self.probes.iter().filter(|probe| probe.attached);
            attached.filter(|probe| probe.group == Group::WritebackWait)
        };
        let switch = waits().any(|probe| probe.function == SCHED_SWITCH);
        // A tracepoint sees only the beginning.
        let ended = |probe: &Probe| probe.method != Method::Tracepoint || switch;
        self.privileges.missing.is_empty()
            && self.lockdown != Lockdown::Confidentiality
            && waits().any(|probe| probe.function != SCHED_SWITCH && ended(probe))
    }

    /// The report as a person reads it.
    #[must_use]
    pub fn to_text(&self) -> String {
        text::render(self)
    }

    fn method(&self, name: &str) -> Option<&MethodFound> {
        self.methods.iter().find(|method| method.name == name)
    }
}

/// Looks at everything. `plan` is what would be attached here, with the reason where the plan
/// already knows one against it; see [`tracepoint_plan`] for the least there is.
#[must_use]
pub fn examine(plan: &[Probe]) -> Report {
    let system = System::read();
    let version = system.version();
    let (btf, hooks) = types_and_hooks();
    let (tracefs, tracepoint) = wait_tracepoint();
    let mut unread = Vec::new();
    let devices = devices::list(Path::new("/sys"), version).unwrap_or_else(|error| {
        unread.push(Problem {
            what: error.to_string(),
            cost: "which devices ask for stable pages is not known".to_owned(),
            remedy: "mount sysfs on /sys".to_owned(),
        });
        Vec::new()
    });
    let mut report = Report {
        kernel: system.release,
        arch: system.machine,
        privileges: privileges(version),
        btf,
        lockdown: Lockdown::read(),
        symbols: symbols(),
        tracefs,
        methods: methods(hooks),
        tracepoints: vec![tracepoint],
        probes: Vec::new(),
        devices,
        problems: Vec::new(),
    };
    report.probes = plan.iter().map(|probe| judge(probe, &report)).collect();
    report.problems = problems::of(&report);
    report.problems.extend(unread);
    report
}

/// The probes of the tracepoint method, which need the least: the beginning of a wait, and the
/// waiter's return to a CPU as its end.
#[must_use]
pub fn tracepoint_plan(wait: &str) -> Vec<Probe> {
    [format!("{WAIT_SYSTEM}:{wait}"), SCHED_SWITCH.to_owned()]
        .map(|function| Probe {
            group: Group::WritebackWait,
            function,
            method: Method::Tracepoint,
            attached: false,
            reason: None,
        })
        .into()
}

/// Attached raw: its record is never read, so neither tracefs nor a format is needed.
const SCHED_SWITCH: &str = "sched:sched_switch";

fn privileges(kernel: Release) -> PrivilegesFound {
    // Where even this cannot be read, we hold nothing that we know of.
    let privileges = Privileges::read()
        .unwrap_or(Privileges { effective: 0, uid: rustix::process::geteuid().as_raw() });
    PrivilegesFound {
        uid: privileges.uid,
        held: Capability::ALL.into_iter().filter(|held| privileges.has(*held)).collect(),
        missing: privileges.missing(kernel),
    }
}

/// The BTF is 5 MiB and more, and is gone after this.
fn types_and_hooks() -> (Found, AttachMethods) {
    let bytes = btf::read(Path::new(btf::VMLINUX));
    let parsed = bytes.as_deref().map_err(BtfError::to_string);
    let parsed = parsed.and_then(|bytes| Btf::parse(bytes).map_err(|error| error.to_string()));
    let hooks = AttachMethods::probe(parsed.as_ref().ok());
    let found = parsed.map(|btf| format!("{} types in {}", btf.len(), btf::VMLINUX));
    (Found::from(found), hooks)
}

fn symbols() -> Found {
    let found = Symbols::load().map(|symbols| format!("{} functions", symbols.len()));
    found.map_err(|error| error.to_string()).into()
}

/// Whether there is a tracefs, and the tracepoint that tells of waits.
fn wait_tracepoint() -> (Found, TracepointFound) {
    let mounted = tracefs::mount_point();
    let read = tracefs::with_tracefs(Format::read_wait);
    let place = || match mounted {
        Some(path) => path.display().to_string(),
        None => "not mounted; we mount it for ourselves alone".to_owned(),
    };
    let found = Found::from(match &read {
        Ok(_) => Ok(place()),
        Err(error) => Err(error.to_string()),
    });
    (found, fields(read))
}

fn fields(read: Result<Result<Format, FormatError>, TracefsError>) -> TracepointFound {
    let absent = |reason: String| TracepointFound {
        name: format!("{WAIT_SYSTEM}:folio_wait_writeback"),
        fields: BTreeMap::new(),
        reason: Some(reason),
    };
    let format = match read {
        Ok(Ok(format)) => format,
        Ok(Err(error)) => return absent(error.to_string()),
        Err(error) => return absent(error.to_string()),
    };
    let mut reason = None;
    let mut fields = BTreeMap::new();
    for name in WAIT_FIELDS {
        match format.require(name) {
            Ok(field) => {
                fields.insert(name.to_owned(), field.offset);
            }
            Err(error) => reason = Some(error.to_string()),
        }
    }
    TracepointFound { name: format!("{WAIT_SYSTEM}:{}", format.name), fields, reason }
}

fn methods(hooks: AttachMethods) -> Vec<MethodFound> {
    let AttachMethods { fentry, kprobe, tracepoint, raw_tracepoint } = hooks;
    [
        ("fentry", fentry),
        ("kprobe", kprobe),
        ("tracepoint", tracepoint),
        ("raw_tracepoint", raw_tracepoint),
    ]
    .map(|(name, tried)| {
        let (reason, remedy) = match tried {
            Ok(()) => (None, None),
            Err(Refusal { reason, remedy }) => (Some(reason), Some(remedy)),
        };
        MethodFound { name: name.to_owned(), available: reason.is_none(), reason, remedy }
    })
    .into()
}

/// A probe of the plan with what the trials say of it.
fn judge(probe: &Probe, report: &Report) -> Probe {
    let raw = probe.function == SCHED_SWITCH;
    let method = if raw { "raw_tracepoint" } else { probe.method.name() };
    let refused = report.method(method).and_then(|method| method.reason.clone());
    let unread = || {
        let mut read = report.tracepoints.iter();
        read.find(|tracepoint| tracepoint.name == probe.function)?.reason.clone()
    };
    let no_tracefs = || {
        let needs = probe.method == Method::Tracepoint && !raw && !report.tracefs.available;
        needs.then(|| report.tracefs.detail.clone())
    };
    let reason = probe.reason.clone().or(refused).or_else(no_tracefs).or_else(unread);
    Probe { attached: reason.is_none(), reason, ..probe.clone() }
}

impl From<Result<String, String>> for Found {
    fn from(found: Result<String, String>) -> Self {
        let available = found.is_ok();
        let (Ok(detail) | Err(detail)) = found;
        Self { available, detail }
    }
}

#[cfg(test)]
mod tests;
