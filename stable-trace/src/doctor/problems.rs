//! Finds the problems of a machine, with their costs and remedies.

use stable_trace_analysis::event::{Protection, Risk};

use super::report::{Problem, Report};
use crate::kernel::{
    lockdown::Lockdown,
    privileges::{Capability, PrivilegesError},
};

/// The problems, the most serious first.
pub(super) fn find(report: &Report) -> Vec<Problem> {
    [
        privileges(report),
        lockdown(report),
        tracefs(report),
        wait_tracepoint(report),
        method(report, "raw_tracepoint", NO_RAW),
        method(report, "tracepoint", NO_TRACEPOINT),
        symbols(report),
        btf(report),
        method(report, "fentry", NO_FENTRY),
        method(report, "kprobe", NO_KPROBE),
    ]
    .into_iter()
    .flatten()
    .chain(unprotected_devices(report))
    .chain(changing_data(report))
    .chain(direct_writes(report))
    .chain(nothing_to_observe(report))
    .collect()
}

const NO_RAW: &str = "without fentry, the end of a wait cannot be observed: nothing can be traced";
const NO_TRACEPOINT: &str = "without fentry, the start of a wait cannot be observed: nothing can \
                             be traced";
const NO_FENTRY: &str = "waits are timed by tracepoints, which run a program at every task switch; \
                         the context of a stall comes from its stack";
const NO_KPROBE: &str = "functions of modules (ext4, xfs, btrfs, scsi, nvme) cannot be probed: the \
                         context of a stall comes from its stack, and the failed check of an \
                         integrity error is not known";

fn problem(what: impl Into<String>, cost: &str, remedy: impl Into<String>) -> Problem {
    Problem { what: what.into(), cost: cost.to_owned(), remedy: remedy.into() }
}

fn privileges(report: &Report) -> Option<Problem> {
    let missing = &report.privileges.missing;
    if missing.is_empty() {
        return None;
    }
    // The error's text is the problem, a colon, and the remedy.
    let error = PrivilegesError::Missing(missing.clone()).to_string();
    let (what, remedy) = error.split_once(": ")?;
    Some(problem(what, "nothing can be traced", remedy))
}

fn lockdown(report: &Report) -> Option<Problem> {
    (report.lockdown == Lockdown::Confidentiality).then(|| {
        problem(
            "kernel lockdown is in confidentiality mode",
            "nothing can be traced: neither tracefs nor kernel memory can be read",
            "boot with lockdown=integrity, or without Secure Boot",
        )
    })
}

fn tracefs(report: &Report) -> Option<Problem> {
    let found = &report.tracefs;
    (!found.available).then(|| split(&found.detail, "tracepoints cannot be attached or read"))
}

fn wait_tracepoint(report: &Report) -> Option<Problem> {
    let tracepoint = report.tracepoints.first().filter(|_| report.tracefs.available)?;
    Some(split(tracepoint.reason.as_ref()?, "waits can be observed by fentry or kprobes only"))
}

fn symbols(report: &Report) -> Option<Problem> {
    let found = &report.symbols;
    let cost = if report.privileges.held.contains(&Capability::CapSyslog) {
        "the context of every stall is `other`, and the end of a wait is seen by fentry or a kretprobe only"
    } else {
        "without CAP_SYSLOG the context of every stall is `other`, and the end of a wait is seen by fentry or a \
         kretprobe only"
    };
    (!found.available).then(|| split(&found.detail, cost))
}

fn btf(report: &Report) -> Option<Problem> {
    let found = &report.btf;
    let cost = "members of kernel structures cannot be read: only the tracepoint method works";
    (!found.available).then(|| split(&found.detail, cost))
}

fn method(report: &Report, name: &str, cost: &str) -> Option<Problem> {
    let method = report.method(name)?;
    let remedy = method.remedy.clone().unwrap_or_default();
    Some(problem(method.reason.clone()?, cost, remedy))
}

/// Splits an error text into problem and remedy. The remedy follows a semicolon, or is in parentheses
/// before the cause.
fn split(error: &str, cost: &str) -> Problem {
    if let Some((what, remedy)) = error.split_once("; ") {
        return problem(what, cost, remedy);
    }
    let parenthesised = error.split_once(" (").and_then(|(what, rest)| {
        let (remedy, cause) = rest.split_once(')')?;
        Some((format!("{what}{cause}"), remedy))
    });
    match parenthesised {
        Some((what, remedy)) => problem(what, cost, remedy),
        None => problem(error, cost, "please report it"),
    }
}

/// Devices that check integrity but do not require stable pages.
fn unprotected_devices(report: &Report) -> impl Iterator<Item = Problem> {
    let checking = report.devices.iter().filter(|device| {
        let checks = device.integrity.as_ref().is_some_and(Protection::is_checked);
        checks && !device.stable_writes
    });
    checking.map(|device| {
        let name = &device.device;
        problem(
            format!("{name} checks integrity, but does not require stable pages"),
            "a page that is rewritten in flight causes a guard error",
            format!("unmount it, echo 1 > /sys/block/{name}/queue/stable_writes, mount it"),
        )
    })
}

/// Devices that rest on unchanged data in another way, but do not require stable pages.
fn changing_data(report: &Report) -> impl Iterator<Item = Problem> {
    let unstable = report.devices.iter().filter(|device| !device.stable_writes);
    unstable.filter_map(|device| {
        let name = &device.device;
        let (what, cost) = match device.risk? {
            Risk::Checksums => (
                "keeps checksums of its own",
                "of a page that is rewritten in flight a later read fails",
            ),
            Risk::Mirrors => (
                "keeps copies",
                "copies of a page that is rewritten in flight differ until it is written again",
            ),
            Risk::ProtectionInformation => return None,
        };
        Some(problem(
            format!("{name} {what}, but does not require stable pages"),
            cost,
            format!("unmount it, echo 1 > /sys/block/{name}/queue/stable_writes, mount it"),
        ))
    })
}

/// File systems of btrfs on which a process can break the checksum of its own data.
fn direct_writes(report: &Report) -> impl Iterator<Item = Problem> {
    let kernel = &report.kernel;
    report.btrfs.iter().filter_map(move |mount| {
        let path = &mount.path;
        let what = match mount.direct_writes_protected {
            Some(true) => return None,
            Some(false) => format!("btrfs on {path} does not protect direct writes on kernel {kernel}"),
            None => format!(
                "btrfs on {path} protects direct writes only if kernel {kernel} has a change of 6.15"
            ),
        };
        Some(problem(
            what,
            "of a direct write whose buffer changes in flight, as virtual machines do it, a later read fails",
            "use kernel 6.15 or later, or chattr +C the folders of such files while they are empty",
        ))
    })
}

/// Kinds of events that cannot occur here.
fn nothing_to_observe(report: &Report) -> impl Iterator<Item = Problem> + use<> {
    let devices = &report.devices;
    let stable = devices.iter().any(|device| device.stable_writes);
    let integrity = devices.iter().any(|device| device.integrity.is_some());
    let stable = (!devices.is_empty() && !stable).then(|| {
        problem(
            "no device requires stable pages",
            "only file systems such as btrfs make writers wait for writeback; other stalls are still traced",
            "for a test: echo 1 > /sys/block/DEVICE/queue/stable_writes, then mount",
        )
    });
    let integrity = (!devices.is_empty() && !integrity).then(|| {
        problem(
            "no device has protection information",
            "integrity errors cannot occur; stalls are still traced",
            "for a test disk: modprobe scsi_debug dif=1 dix=1",
        )
    });
    stable.into_iter().chain(integrity)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remedy_follows_a_semicolon_or_is_in_parentheses() {
        for (error, what, remedy) in [
            ("no BTF; use another kernel", "no BTF", "use another kernel"),
            ("cannot read /x (run as root): EPERM", "cannot read /x: EPERM", "run as root"),
            ("cannot read /x: EPERM", "cannot read /x: EPERM", "please report it"),
        ] {
            let problem = split(error, "nothing works");
            assert_eq!((problem.what.as_str(), problem.remedy.as_str()), (what, remedy));
        }
    }
}
