//! Gathers the report.

use std::{collections::BTreeMap, path::Path};

use stable_trace_analysis::{
    error_chain::ErrorChain,
    event::{Group, Method, Probe},
};

use super::{
    problems,
    report::{
        AttachMethod, Availability, BtrfsMount, Privileges, Problem, Report, SCHED_SWITCH,
        Tracepoint,
    },
};
use crate::kernel::{
    btf::{self, Btf},
    devices,
    feature_probe::{AttachMethods, Refusal},
    lockdown::Lockdown,
    mountinfo,
    privileges::{Capability, Privileges as ProcessPrivileges},
    release::{Release, System},
    symbols::Symbols,
    tracefs::{self, TracefsError},
    tracepoint::{Format, FormatError, WAIT_FIELDS, WAIT_SYSTEM},
};

/// Examines the machine. `plan` lists the probes that a run would try to attach, with a reason where
/// the plan itself rules one out; [`tracepoint_plan`] is the minimum.
pub(crate) fn examine(plan: &[Probe]) -> Report {
    let system = System::read();
    let version = system.version();
    let (btf, hooks) = types_and_hooks();
    let (tracefs, tracepoint) = wait_tracepoint();
    let mut unreadable = Vec::new();
    let devices = devices::list(Path::new("/sys"), version).unwrap_or_else(|error| {
        unreadable.push(Problem {
            what: ErrorChain(&error).to_string(),
            cost: "the devices that require stable pages are not known".to_owned(),
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
        btrfs: btrfs(version),
        problems: Vec::new(),
    };
    report.probes = plan.iter().map(|probe| with_trials(probe, &report)).collect();
    report.problems = problems::find(&report);
    report.problems.extend(unreadable);
    report
}

/// The probes of the tracepoint method, which has the fewest requirements: one at the start of a wait,
/// and one at task switches, which observes the end.
pub(crate) fn tracepoint_plan(wait: &str) -> Vec<Probe> {
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

/// Without a readable list of mounts, none.
fn btrfs(kernel: Release) -> Vec<BtrfsMount> {
    let text = std::fs::read(mountinfo::MOUNTINFO).unwrap_or_default();
    let mounts = mountinfo::btrfs_with_checksums(&String::from_utf8_lossy(&text));
    let direct_writes_protected = direct_writes_protected(kernel);
    mounts
        .into_iter()
        .map(|mount| BtrfsMount { path: mount.point, direct_writes_protected })
        .collect()
}

/// Whether btrfs protects direct writes to files with checksums: from 6.15 on it makes them buffered ones (commit
/// 968f19c5b1b7), and 7.3 copies the data (`IOMAP_DIO_BOUNCE`). Some releases of 6.6 and 6.12 have the former.
const fn direct_writes_protected(kernel: Release) -> Option<bool> {
    match (kernel.major, kernel.minor) {
        (6, 6 | 12) => None,
        (..=5, _) | (6, ..=14) => Some(false),
        _ => Some(true),
    }
}

fn privileges(kernel: Release) -> Privileges {
    // Without a readable /proc no capability is known to be held.
    let privileges = ProcessPrivileges::read()
        .unwrap_or(ProcessPrivileges { effective: 0, uid: rustix::process::geteuid().as_raw() });
    Privileges {
        uid: privileges.uid,
        held: Capability::ALL.into_iter().filter(|held| privileges.has(*held)).collect(),
        missing: privileges.missing(kernel),
    }
}

/// Reads the BTF, and tries the methods with it. The BTF, 5 MiB and more, is freed afterwards.
fn types_and_hooks() -> (Availability, AttachMethods) {
    let bytes = btf::read(Path::new(btf::VMLINUX));
    let parsed = bytes.as_deref().map_err(|error| ErrorChain(error).to_string());
    let parsed =
        parsed.and_then(|bytes| Btf::parse(bytes).map_err(|error| ErrorChain(&error).to_string()));
    let hooks = AttachMethods::probe(parsed.as_ref().ok());
    let availability = match parsed {
        Ok(btf) => Availability::yes(format!("{} types in {}", btf.len(), btf::VMLINUX)),
        Err(reason) => Availability::no(reason),
    };
    (availability, hooks)
}

fn symbols() -> Availability {
    let symbols = Symbols::load().and_then(|symbols| {
        symbols.check_addresses()?;
        Ok(format!("{} functions", symbols.len()))
    });
    Availability::of(symbols)
}

/// Whether tracefs is available, and the tracepoint that fires at the start of a wait.
fn wait_tracepoint() -> (Availability, Tracepoint) {
    let mounted = tracefs::mount_point();
    let read = tracefs::with_tracefs(Format::read_wait);
    let location = || match mounted {
        Some(path) => path.display().to_string(),
        None => "not mounted; stable-trace mounts it in a namespace of its own".to_owned(),
    };
    let availability = match &read {
        Ok(_) => Availability::yes(location()),
        Err(error) => Availability::no(ErrorChain(error).to_string()),
    };
    (availability, wait_fields(read))
}

fn wait_fields(read: Result<Result<Format, FormatError>, TracefsError>) -> Tracepoint {
    let unavailable = |error: &(dyn std::error::Error + 'static)| Tracepoint {
        name: format!("{WAIT_SYSTEM}:folio_wait_writeback"),
        fields: BTreeMap::new(),
        reason: Some(ErrorChain(error).to_string()),
    };
    let format = match read {
        Ok(Ok(format)) => format,
        Ok(Err(error)) => return unavailable(&error),
        Err(error) => return unavailable(&error),
    };
    let mut reason = None;
    let mut fields = BTreeMap::new();
    for name in WAIT_FIELDS {
        match format.require(name) {
            Ok(field) => {
                fields.insert(name.to_owned(), field.offset);
            }
            Err(error) => reason = Some(ErrorChain(&error).to_string()),
        }
    }
    Tracepoint { name: format!("{WAIT_SYSTEM}:{}", format.name), fields, reason }
}

fn methods(hooks: AttachMethods) -> Vec<AttachMethod> {
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
        AttachMethod { name: name.to_owned(), available: reason.is_none(), reason, remedy }
    })
    .into()
}

/// A probe of the plan, with the outcome of the trials.
pub(super) fn with_trials(probe: &Probe, report: &Report) -> Probe {
    let raw = probe.function == SCHED_SWITCH;
    let method = if raw { "raw_tracepoint" } else { probe.method.name() };
    let refused = report.method(method).and_then(|method| method.reason.clone());
    let unreadable_record = || {
        let mut tracepoints = report.tracepoints.iter();
        tracepoints.find(|tracepoint| tracepoint.name == probe.function)?.reason.clone()
    };
    let no_tracefs = || {
        let needs_it = probe.method == Method::Tracepoint && !raw && !report.tracefs.available;
        needs_it.then(|| report.tracefs.detail.clone())
    };
    let reason = probe.reason.clone().or(refused).or_else(no_tracefs).or_else(unreadable_record);
    Probe { attached: reason.is_none(), reason, ..probe.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn btrfs_protects_direct_writes_from_6_15_on() {
        let protected = |minor| direct_writes_protected(Release::new(6, minor));
        assert_eq!(direct_writes_protected(Release::new(5, 10)), Some(false));
        assert_eq!(protected(1), Some(false));
        assert_eq!(protected(6), None);
        assert_eq!(protected(12), None);
        assert_eq!(protected(14), Some(false));
        assert_eq!(protected(15), Some(true));
        assert_eq!(direct_writes_protected(Release::new(7, 3)), Some(true));
    }
}
