//! Families about the kernel: stalls, unstable writes, integrity errors, verdicts, devices.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    hash::Hash,
    time::Duration,
};

use prometheus::proto::MetricFamily;
use stable_trace_analysis::{
    event::{Cause, Check, Context, Device, Grade, Operation, ProofKind, Source},
    sink::format::sanitize,
};
use stable_trace_common::process::ProcessKey;

use super::{DeviceFsLabels, OTHER, ProcessLabels, Registry, StallLabels, UNKNOWN, or_unknown};
use crate::metrics::{
    bounded_counters::BoundedCounters,
    family::Family,
    limits,
    number::{count, seconds},
    process_label::process_label,
    snapshot::Snapshot,
};

impl Registry {
    pub(super) fn kernel(&mut self, snapshot: &Snapshot) -> Vec<Option<MetricFamily>> {
        let mounted = snapshot.mounted.iter().map(DeviceFsLabels::new).collect();
        vec![
            self.stalls(snapshot, &mounted),
            self.waiting_tasks(snapshot),
            self.oldest_waits(snapshot),
            self.processes(snapshot),
            self.unstable(snapshot, &mounted),
            self.integrity(snapshot),
            self.verdicts(snapshot),
            self.proofs(snapshot),
            stable_writes(&snapshot.devices),
            protection(&snapshot.devices),
        ]
    }

    fn stalls(
        &mut self,
        snapshot: &Snapshot,
        mounted: &BTreeSet<DeviceFsLabels>,
    ) -> Option<MetricFamily> {
        // Sync waits too, so that the ratio of stable-page stalls to them is defined from the start.
        let contexts = [Context::WriteBegin, Context::PageMkwrite, Context::Sync];
        let is_gone = |labels: &DeviceFsLabels| is_gone(mounted, labels);
        self.declared.retain(|labels| !is_gone(labels));
        self.stalls.begin(snapshot.uptime, |(_, labels)| !is_gone(labels));
        for mounted in &snapshot.mounted {
            if (self.declared.len() + 1) * contexts.len() > limits::STALLS_DECLARED {
                break;
            }
            if self.declared.insert(DeviceFsLabels::new(mounted)) {
                for context in contexts {
                    self.stalls.declare((context, DeviceFsLabels::new(mounted)));
                }
            }
        }
        // Longest stall time first: those get series of their own while the limit allows.
        let mut stalls: Vec<_> = snapshot.stalls.iter().collect();
        stalls.sort_by_key(|stalls| Reverse(stalls.histogram.sum_ns));
        for stalls in stalls {
            let labels = (stalls.context, DeviceFsLabels::new(&stalls.device_fs));
            self.stalls.observe_or_replace(
                stalls.key,
                labels,
                &stalls.histogram,
                |(_, labels), idle| is_replaceable(is_gone(labels), idle),
            );
        }
        let mut family = Family::histogram(
            "stable_trace_stall_seconds",
            "Time that tasks waited for the writeback of a page to end.",
        );
        for ((context, DeviceFsLabels { device, fs }), histogram) in self.stalls.sums() {
            let labels = [("context", context.name()), ("device", device), ("fs", fs)];
            family.buckets(&labels, histogram);
        }
        family.done()
    }

    /// Those of mounted file systems have the value 0 while no task waits.
    fn waiting_tasks(&self, snapshot: &Snapshot) -> Option<MetricFamily> {
        let contexts = [Context::WriteBegin, Context::PageMkwrite, Context::Sync];
        let declared = self.declared.iter().flat_map(|labels| {
            contexts.into_iter().map(move |context| ((context, labels.clone()), 0))
        });
        let mut tasks: BTreeMap<StallLabels, u64> = declared.collect();
        for task in &snapshot.waiting {
            let labels = (task.context, DeviceFsLabels::new(&task.device_fs));
            let has_place = tasks.contains_key(&labels) || tasks.len() < limits::WAITING;
            let labels = if has_place { labels } else { (task.context, DeviceFsLabels::other()) };
            *tasks.entry(labels).or_default() += 1;
        }
        let mut family = Family::gauge(
            "stable_trace_waiting_tasks",
            "Tasks that wait for the writeback of a page at this moment.",
        );
        for ((context, DeviceFsLabels { device, fs }), tasks) in &tasks {
            let labels = [("context", context.name()), ("device", device), ("fs", fs)];
            family.value(&labels, count(*tasks));
        }
        family.done()
    }

    fn oldest_waits(&self, snapshot: &Snapshot) -> Option<MetricFamily> {
        let mut oldest: BTreeMap<DeviceFsLabels, u64> =
            self.declared.iter().map(|labels| (labels.clone(), 0)).collect();
        for task in &snapshot.waiting {
            let labels = DeviceFsLabels::new(&task.device_fs);
            let has_place = oldest.contains_key(&labels) || oldest.len() < limits::OLDEST;
            let labels = if has_place { labels } else { DeviceFsLabels::other() };
            let age_ns = oldest.entry(labels).or_default();
            *age_ns = task.age_ns.max(*age_ns);
        }
        let mut family = Family::gauge(
            "stable_trace_oldest_wait_seconds",
            "For how long the oldest wait for writeback that has not ended has lasted.",
        );
        for (DeviceFsLabels { device, fs }, age_ns) in &oldest {
            family.value(&[("device", device), ("fs", fs)], seconds(*age_ns));
        }
        family.done()
    }

    fn processes(&mut self, snapshot: &Snapshot) -> Option<MetricFamily> {
        let mut processes: Vec<_> = snapshot.processes.iter().collect();
        processes.sort_by_key(|process| Reverse(process.sum_ns));
        for process in processes {
            if !self.processes.would_increase(&process.key, &process.sum_ns) {
                continue;
            }
            let name = process.name.as_deref().filter(|_| process.key != ProcessKey::OVERFLOW);
            let cgroup = process.cgroup.as_ref();
            let cgroup =
                cgroup.map(|path| or_unknown(Some(&**path).filter(|path| !path.is_empty())));
            let own =
                ProcessLabels { comm: sanitize(process_label(name.unwrap_or(OTHER))), cgroup };
            let labels = if name.is_some() && self.takes_place(&own, snapshot.uptime) {
                own
            } else {
                ProcessLabels::other(&own)
            };
            self.processes.observe(process.key, (labels, process.context), &process.sum_ns);
        }
        let mut family = Family::counter(
            "stable_trace_process_stall_seconds_total",
            "Time that processes with this name waited for writeback.",
        );
        for ((ProcessLabels { comm, cgroup }, context), sum_ns) in self.processes.sums() {
            let mut labels = vec![("comm", comm.as_str()), ("context", context.name())];
            labels.extend(cgroup.as_deref().map(|cgroup| ("cgroup", cgroup)));
            family.value(&labels, seconds(*sum_ns));
        }
        family.done()
    }

    /// Whether a process that stalls now has series of its own: while there are few, or in the place of the
    /// one that has not stalled for the longest time.
    fn takes_place(&mut self, process: &ProcessLabels, now: Duration) -> bool {
        if let Some(stalled) = self.stalled.get_mut(process) {
            *stalled = now;
            return true;
        }
        if self.stalled.len() >= limits::PROCESSES {
            let longest = self.stalled.iter().min_by_key(|(_, stalled)| **stalled);
            let Some((idle, _)) =
                longest.filter(|(_, stalled)| now.saturating_sub(**stalled) >= limits::IDLE)
            else {
                return false;
            };
            let idle = idle.clone();
            self.stalled.remove(&idle);
            for context in Context::ALL {
                self.processes.release(&(idle.clone(), context));
            }
        }
        self.stalled.insert(process.clone(), now);
        true
    }

    fn unstable(
        &mut self,
        snapshot: &Snapshot,
        mounted: &BTreeSet<DeviceFsLabels>,
    ) -> Option<MetricFamily> {
        let is_gone = |labels: &DeviceFsLabels| is_gone(mounted, labels);
        self.unstable_declared.retain(|(labels, ..)| !is_gone(labels));
        self.unstable.begin(snapshot.uptime, |(labels, ..)| !is_gone(labels));
        for mounted in &snapshot.mounted {
            let on = |device: &&Device| mounted.device.as_deref() == Some(device.device.as_str());
            let grades = snapshot.devices.iter().find(on).map_or(&[][..], possible_grades);
            for grade in grades {
                for context in [Context::WriteBegin, Context::PageMkwrite] {
                    if self.unstable_declared.len() < limits::UNSTABLE_DECLARED {
                        let labels = (DeviceFsLabels::new(mounted), context, *grade);
                        if self.unstable.declare(labels.clone()) {
                            self.unstable_declared.insert(labels);
                        }
                    }
                }
            }
        }
        for unstable in &snapshot.unstable {
            let labels =
                (DeviceFsLabels::new(&unstable.device_fs), unstable.context, unstable.grade);
            self.unstable.observe_or_replace(
                unstable.key,
                labels,
                &unstable.count,
                |(labels, ..), idle| is_replaceable(is_gone(labels), idle),
            );
        }
        let mut family = Family::counter(
            "stable_trace_unstable_writes_total",
            "Pages given to a writer while they were under writeback.",
        );
        for ((DeviceFsLabels { device, fs }, context, grade), writes) in self.unstable.sums() {
            let labels = [
                ("device", device.as_str()),
                ("fs", fs),
                ("context", context.name()),
                ("grade", grade.name()),
            ];
            family.value(&labels, count(*writes));
        }
        family.done()
    }

    fn integrity(&mut self, snapshot: &Snapshot) -> Option<MetricFamily> {
        let is_removed = |device: &str| is_removed(&snapshot.devices, device);
        self.integrity.begin(snapshot.uptime, |(device, ..)| !is_removed(device));
        for device in &snapshot.devices {
            for (op, check, source) in possible_errors(device) {
                self.integrity.declare((device.device.clone(), op, check, source));
            }
        }
        for errors in &snapshot.integrity {
            let (op, check, source) = (errors.op, errors.check, errors.source);
            let labels = (or_unknown(errors.device.as_deref()), op, check, source);
            self.integrity.observe_or_replace(
                errors.key,
                labels,
                &errors.count,
                |(device, ..), idle| is_replaceable(is_removed(device), idle),
            );
        }
        let mut family = Family::counter(
            "stable_trace_integrity_errors_total",
            "Failed checks of protection information.",
        );
        for ((device, op, check, source), errors) in self.integrity.sums() {
            let labels = [
                ("device", device.as_str()),
                ("op", op.name()),
                ("check", check.name()),
                ("source", source.name()),
            ];
            family.value(&labels, count(*errors));
        }
        family.done()
    }

    fn proofs(&mut self, snapshot: &Snapshot) -> Option<MetricFamily> {
        let counts = snapshot.proofs.iter().map(|of| (of.device.as_deref(), of.kind, &of.count));
        observe_by_device(&mut self.proofs, snapshot, ProofKind::ALL, counts);
        let mut family = Family::counter(
            "stable_trace_verdict_proofs_total",
            "What the data and the protection information of integrity errors prove.",
        );
        for ((device, kind), proofs) in self.proofs.sums() {
            let labels = [("device", device.as_str()), ("kind", kind.name())];
            family.value(&labels, count(*proofs));
        }
        family.done()
    }

    fn verdicts(&mut self, snapshot: &Snapshot) -> Option<MetricFamily> {
        let counts = snapshot.verdicts.iter().map(|of| (of.device.as_deref(), of.cause, &of.count));
        observe_by_device(&mut self.verdicts, snapshot, &Cause::ALL, counts);
        let mut family = Family::counter(
            "stable_trace_verdicts_total",
            "Causes of integrity errors, as far as they could be determined.",
        );
        for ((device, cause), verdicts) in self.verdicts.sums() {
            let labels = [("device", device.as_str()), ("cause", cause.name())];
            family.value(&labels, count(*verdicts));
        }
        family.done()
    }
}

/// Takes counts by device and one more label. A device with protection information has each of `all` from the
/// beginning; one that has been removed gives its place to others.
fn observe_by_device<'a, L: Copy + Eq + Hash + Ord>(
    counters: &mut BoundedCounters<(String, L), (String, L), u64>,
    snapshot: &Snapshot,
    all: &[L],
    counts: impl Iterator<Item = (Option<&'a str>, L, &'a u64)>,
) {
    let is_removed = |device: &str| is_removed(&snapshot.devices, device);
    counters.begin(snapshot.uptime, |(device, _)| !is_removed(device));
    for device in snapshot.devices.iter().filter(|device| device.integrity.is_some()) {
        for label in all {
            counters.declare((device.device.clone(), *label));
        }
    }
    for (device, label, count) in counts {
        let labels = (or_unknown(device), label);
        counters.observe_or_replace(labels.clone(), labels, count, |(device, _), idle| {
            is_replaceable(is_removed(device), idle)
        });
    }
}

/// Whether a file system is mounted no longer, or in other mount namespaces only.
fn is_gone(mounted: &BTreeSet<DeviceFsLabels>, labels: &DeviceFsLabels) -> bool {
    labels.device != UNKNOWN && !mounted.contains(labels)
}

/// Whether a block device has been removed.
fn is_removed(devices: &[Device], device: &str) -> bool {
    device != UNKNOWN && devices.iter().all(|present| present.device != device)
}

/// Whether series can give their place to others.
fn is_replaceable(is_gone: bool, idle: Duration) -> bool {
    idle >= limits::IDLE || is_gone && !idle.is_zero()
}

/// The label sets of integrity errors to declare for a device: those of its driver, for reads and
/// writes.
fn possible_errors(device: &Device) -> Vec<(Operation, Check, Source)> {
    if device.integrity.is_none() {
        return Vec::new();
    }
    let source = match device.device.as_str() {
        name if name.starts_with("sd") => Source::Scsi,
        name if name.starts_with("nvme") => Source::Nvme,
        _ => Source::Block,
    };
    let checks = [Check::Guard, Check::ApplicationTag, Check::ReferenceTag, Check::Unknown];
    [Operation::Read, Operation::Write]
        .into_iter()
        .flat_map(|op| checks.map(|check| (op, check, source)))
        .collect()
}

/// The grades of unstable writes to declare for a device: `violation` where it requires stable pages,
/// and also `hole` where it checks integrity.
const fn possible_grades(device: &Device) -> &'static [Grade] {
    match (device.integrity.is_some(), device.stable_writes) {
        (true, _) => &[Grade::Violation, Grade::Hole],
        (false, true) => &[Grade::Violation],
        (false, false) => &[],
    }
}

fn stable_writes(devices: &[Device]) -> Option<MetricFamily> {
    let mut family = Family::gauge(
        "stable_trace_device_stable_writes",
        "Whether pages under writeback to the device must not change.",
    );
    // Devices with PI or stable writes first, in case there are more than the limit.
    let mut devices: Vec<_> = devices.iter().collect();
    devices.sort_by_key(|device| (device.integrity.is_none(), !device.stable_writes));
    for device in devices.into_iter().take(limits::DEVICES) {
        family.value(&[("device", &device.device)], f64::from(u8::from(device.stable_writes)));
    }
    family.done()
}

fn protection(devices: &[Device]) -> Option<MetricFamily> {
    let mut family = Family::gauge(
        "stable_trace_device_integrity_info",
        "The format of a device's protection information.",
    );
    let protected = devices.iter().filter_map(|device| Some((device, device.integrity.as_ref()?)));
    for (device, protection) in protected.take(limits::PROTECTED) {
        let labels = [("device", device.device.as_str()), ("format", &protection.format)];
        family.value(&labels, 1.0);
    }
    family.done()
}
