//! What the kernel counts: stalls, unstable writes, integrity errors, verdicts, and the devices.

use std::cmp::Reverse;

use prometheus::proto::MetricFamily;
use stable_trace_analysis::event::{Cause, Check, Context, Device, Grade, Operation, Source};
use stable_trace_common::process::ProcessKey;

use super::{Named, OTHER, Registry, or_unknown};
use crate::metrics::{
    family::Family,
    limits,
    number::{count, seconds},
    snapshot::Snapshot,
};

impl Registry {
    pub(super) fn kernel(&mut self, snapshot: &Snapshot) -> Vec<Option<MetricFamily>> {
        vec![
            self.stalls(snapshot),
            self.processes(snapshot),
            self.unstable(snapshot),
            self.integrity(snapshot),
            self.verdicts(snapshot),
            stable_writes(&snapshot.devices),
            protection(&snapshot.devices),
        ]
    }

    fn stalls(&mut self, snapshot: &Snapshot) -> Option<MetricFamily> {
        // Sync waits too: who compares stable pages with the rest divides one by the other.
        let contexts = [Context::WriteBegin, Context::PageMkwrite, Context::Sync];
        for place in &snapshot.places {
            if (self.announced.len() + 1) * contexts.len() > limits::STALLS_ANNOUNCED {
                break;
            }
            if self.announced.insert(Named::new(place)) {
                for context in contexts {
                    self.stalls.announce((context, Named::new(place)));
                }
            }
        }
        // The most stalled first: they get what room there is.
        let mut stalls: Vec<_> = snapshot.stalls.iter().collect();
        stalls.sort_by_key(|stalls| Reverse(stalls.histogram.sum_ns));
        for stalls in stalls {
            let labels = (stalls.context, Named::new(&stalls.place));
            self.stalls.look(stalls.key, labels, &stalls.histogram);
        }
        let mut family = Family::histogram(
            "stable_trace_stall_seconds",
            "How long tasks waited for the writeback of a page to end.",
        );
        for ((context, Named { device, fs }), histogram) in self.stalls.sums() {
            let labels = [("context", context.name()), ("device", device), ("fs", fs)];
            family.buckets(&labels, histogram);
        }
        family.done()
    }

    fn processes(&mut self, snapshot: &Snapshot) -> Option<MetricFamily> {
        let mut processes: Vec<_> = snapshot.processes.iter().collect();
        processes.sort_by_key(|process| Reverse(process.sum_ns));
        for process in processes {
            let comm = match &process.comm {
                Some(comm) if self.comms.contains(comm) => comm,
                Some(comm)
                    if process.key != ProcessKey::OVERFLOW
                        && self.comms.len() < limits::PROCESSES =>
                {
                    self.comms.insert(comm.clone());
                    comm
                }
                _ => OTHER,
            };
            let labels = (comm.to_owned(), process.context);
            self.processes.look(process.key, labels, &process.sum_ns);
        }
        let mut family = Family::counter(
            "stable_trace_process_stall_seconds_total",
            "Time that threads of this name waited for writeback.",
        );
        for ((comm, context), sum_ns) in self.processes.sums() {
            let labels = [("comm", comm.as_str()), ("context", context.name())];
            family.value(&labels, seconds(*sum_ns));
        }
        family.done()
    }

    fn unstable(&mut self, snapshot: &Snapshot) -> Option<MetricFamily> {
        for place in &snapshot.places {
            let on = |device: &&Device| place.device.as_deref() == Some(device.device.as_str());
            let grades = snapshot.devices.iter().find(on).map_or(&[][..], conceivable);
            for grade in grades {
                for context in [Context::WriteBegin, Context::PageMkwrite] {
                    if self.unstable_announced < limits::UNSTABLE_ANNOUNCED {
                        let new = self.unstable.announce((Named::new(place), context, *grade));
                        self.unstable_announced += usize::from(new);
                    }
                }
            }
        }
        for unstable in &snapshot.unstable {
            let labels = (Named::new(&unstable.place), unstable.context, unstable.grade);
            self.unstable.look(unstable.key, labels, &unstable.count);
        }
        let mut family = Family::counter(
            "stable_trace_unstable_writes_total",
            "Pages given to a writer while they were under writeback.",
        );
        for ((Named { device, fs }, context, grade), writes) in self.unstable.sums() {
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
        for device in &snapshot.devices {
            for (op, check, source) in expected(device) {
                self.integrity.announce((device.device.clone(), op, check, source));
            }
        }
        for errors in &snapshot.integrity {
            let (op, check, source) = (errors.op, errors.check, errors.source);
            let labels = (or_unknown(errors.device.as_deref()), op, check, source);
            self.integrity.look(errors.key, labels, &errors.count);
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

    fn verdicts(&mut self, snapshot: &Snapshot) -> Option<MetricFamily> {
        for device in snapshot.devices.iter().filter(|device| device.integrity.is_some()) {
            for cause in Cause::ALL {
                self.verdicts.announce((device.device.clone(), cause));
            }
        }
        for verdicts in &snapshot.verdicts {
            let labels = (or_unknown(verdicts.device.as_deref()), verdicts.cause);
            self.verdicts.look(labels.clone(), labels, &verdicts.count);
        }
        let mut family = Family::counter(
            "stable_trace_verdicts_total",
            "What caused integrity errors, as far as it could be told.",
        );
        for ((device, cause), verdicts) in self.verdicts.sums() {
            let labels = [("device", device.as_str()), ("cause", cause.name())];
            family.value(&labels, count(*verdicts));
        }
        family.done()
    }
}

/// The errors that a device can be expected to have: those of its own kind, in either direction.
fn expected(device: &Device) -> Vec<(Operation, Check, Source)> {
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

/// The grades that unstable writes above a device are to be feared of: that of a file system that
/// breaks what the device asks for, and that of one that was not asked though the device checks.
const fn conceivable(device: &Device) -> &'static [Grade] {
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
    // If there are too many, those that ask for something come first.
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
