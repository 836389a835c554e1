//! From what was found to what it costs and what to do.

use super::{Problem, Report};
use crate::kernel::{
    lockdown::Lockdown,
    privileges::{Capability, PrivilegesError},
};

/// What is missing, the gravest first.
pub(super) fn of(report: &Report) -> Vec<Problem> {
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
    .chain(holes(report))
    .chain(nothing_to_see(report))
    .collect()
}

const NO_RAW: &str = "without fentry, the end of a wait is not seen: nothing can be traced";
const NO_TRACEPOINT: &str = "without fentry, the beginning of a wait is not seen: nothing can be \
                             traced";
const NO_FENTRY: &str = "waits are timed by tracepoints instead, with a program at every switch of \
                         tasks, and what a task was doing is read from its stack";
const NO_KPROBE: &str = "functions of modules (ext4, xfs, btrfs, scsi, nvme) cannot be probed: what \
                         a task was doing is read from its stack, and the failed check of an \
                         integrity error stays unknown";

fn problem(what: impl Into<String>, cost: &str, remedy: impl Into<String>) -> Problem {
    Problem { what: what.into(), cost: cost.to_owned(), remedy: remedy.into() }
}

fn privileges(report: &Report) -> Option<Problem> {
    let missing = &report.privileges.missing;
    if missing.is_empty() {
        return None;
    }
    let error = PrivilegesError::Missing(missing.clone()).to_string();
    let (what, remedy) = error.split_once(": ")?;
    Some(problem(what, "nothing can be traced", remedy))
}

fn lockdown(report: &Report) -> Option<Problem> {
    (report.lockdown == Lockdown::Confidentiality).then(|| {
        problem(
            "the kernel is locked down to confidentiality",
            "nothing can be traced: neither tracefs nor kernel memory can be read",
            "boot with lockdown=integrity, or without secure boot",
        )
    })
}

fn tracefs(report: &Report) -> Option<Problem> {
    let found = &report.tracefs;
    (!found.available).then(|| split(&found.detail, "tracepoints cannot be attached or read"))
}

fn wait_tracepoint(report: &Report) -> Option<Problem> {
    let tracepoint = report.tracepoints.first().filter(|_| report.tracefs.available)?;
    Some(split(tracepoint.reason.as_ref()?, "waits are seen only by fentry or a kprobe"))
}

fn symbols(report: &Report) -> Option<Problem> {
    let found = &report.symbols;
    let cost = if report.privileges.held.contains(&Capability::CapSyslog) {
        "stacks have no names: without fentry and kprobes every stall's context is `other`"
    } else {
        "stacks have no names without CAP_SYSLOG: without fentry and kprobes every stall's context \
         is `other`"
    };
    (!found.available).then(|| split(&found.detail, cost))
}

fn btf(report: &Report) -> Option<Problem> {
    let found = &report.btf;
    let cost = "no member of a kernel structure can be read: only the tracepoint method works";
    (!found.available).then(|| split(&found.detail, cost))
}

fn method(report: &Report, name: &str, cost: &str) -> Option<Problem> {
    let method = report.method(name)?;
    let remedy = method.remedy.clone().unwrap_or_default();
    Some(problem(method.reason.clone()?, cost, remedy))
}

/// Our errors say what happened, and after a semicolon what to do.
fn split(error: &str, cost: &str) -> Problem {
    match error.split_once("; ") {
        Some((what, remedy)) => problem(what, cost, remedy),
        None => problem(error, cost, "please report it"),
    }
}

/// Devices that check what they are sent, and do not keep it from changing.
fn holes(report: &Report) -> impl Iterator<Item = Problem> {
    let checking = report.devices.iter().filter(|device| {
        let checks = device.integrity.as_ref().is_some_and(|found| found.format != "nop");
        checks && !device.stable_writes
    });
    checking.map(|device| {
        let name = &device.device;
        problem(
            format!("{name} checks its data, and does not ask for stable pages"),
            "a page rewritten in flight is a guard error",
            format!("unmount it, echo 1 > /sys/block/{name}/queue/stable_writes, mount it"),
        )
    })
}

/// What a person would look for in vain.
fn nothing_to_see(report: &Report) -> impl Iterator<Item = Problem> + use<> {
    let devices = &report.devices;
    let stable = devices.iter().any(|device| device.stable_writes);
    let integrity = devices.iter().any(|device| device.integrity.is_some());
    let stable = (!devices.is_empty() && !stable).then(|| {
        problem(
            "no device asks for stable pages",
            "writers wait for writeback on btrfs and the like only; other stalls are still traced",
            "to try it: echo 1 > /sys/block/DEVICE/queue/stable_writes, then mount",
        )
    });
    let integrity = (!devices.is_empty() && !integrity).then(|| {
        problem(
            "no device has protection information",
            "there are no integrity errors to see; stalls are traced all the same",
            "to try it: modprobe scsi_debug dif=1 dix=1",
        )
    });
    stable.into_iter().chain(integrity)
}
