//! Families about the agent: probes, losses, costs, map fill, the workload, the process.

use std::collections::BTreeMap;

use prometheus::proto::MetricFamily;
use stable_trace_analysis::event::{ModeCount, Output};

use super::Registry;
use crate::{
    collect::map_fill::MapFill,
    metrics::{
        family::{Family, single_counter},
        limits,
        number::{count, seconds},
        process::ProcessMetrics,
        snapshot::{Program, Snapshot},
    },
};

impl Registry {
    pub(super) fn agent(&mut self, snapshot: &Snapshot) -> Vec<Option<MetricFamily>> {
        let mut families = vec![
            self.build(),
            attached(snapshot),
            self.missed(&snapshot.missed),
            single_counter(
                "stable_trace_events_received_total",
                "Events that the agent took from the ring buffer.",
                snapshot.events_received,
            ),
            single_counter(
                "stable_trace_events_lost_total",
                "Records that the full ring buffer dropped; all counters on this page include them.",
                snapshot.events_lost,
            ),
            outputs_lost(&snapshot.outputs_lost),
            single_counter(
                "stable_trace_integrity_repeated_total",
                "Integrity errors that a stacked device reported again; they are counted once.",
                snapshot.integrity_repeated,
            ),
            single_counter(
                "stable_trace_evidence_skipped_total",
                "Integrity errors whose data was not copied, or not all: too many at once.",
                snapshot.evidence_skipped,
            ),
            single_counter(
                "stable_trace_stack_walks_total",
                "Kernel stacks of waits that were walked; the others were recognised.",
                snapshot.stack_walks,
            ),
            self.workload_errors(&snapshot.workload),
        ];
        families.extend(programs(&snapshot.programs));
        families.extend(maps(&snapshot.maps));
        families.extend([map_bytes(&snapshot.map_bytes)]);
        families.extend(workload(&snapshot.workload));
        families.extend(process(&snapshot.process));
        families
    }

    fn build(&self) -> Option<MetricFamily> {
        let mut family = Family::gauge(
            "stable_trace_build_info",
            "Version of stable-trace, and the kernel release.",
        );
        let super::Build { version, revision, kernel } = &self.build;
        let labels = [
            ("version", version.as_str()),
            ("revision", revision.as_str()),
            ("kernel", kernel.as_str()),
        ];
        family.value(&labels, 1.0);
        family.done()
    }

    fn missed(&mut self, missed: &BTreeMap<String, u64>) -> Option<MetricFamily> {
        for (function, runs) in missed {
            self.missed.declare(function.clone());
            self.missed.observe(function.clone(), function.clone(), runs);
        }
        let mut family = Family::counter(
            "stable_trace_probe_missed_total",
            "Runs of a probe that the kernel skipped.",
        );
        for (function, runs) in self.missed.sums() {
            family.value(&[("function", function)], count(*runs));
        }
        family.done()
    }

    fn workload_errors(
        &mut self,
        workload: &BTreeMap<(String, String), ModeCount>,
    ) -> Option<MetricFamily> {
        for ((profile, mode), counts) in workload.iter().take(limits::WORKLOADS) {
            for (errno, errors) in &counts.errors {
                let labels = (profile.clone(), mode.clone(), errno.clone());
                self.workload_errors.observe(labels.clone(), labels, errors);
            }
        }
        let mut family = Family::counter(
            "stable_trace_workload_errors_total",
            "Failed system calls of the paired workload.",
        );
        for ((profile, mode, errno), errors) in self.workload_errors.sums() {
            let labels =
                [("profile", profile.as_str()), ("mode", mode.as_str()), ("errno", errno.as_str())];
            family.value(&labels, count(*errors));
        }
        family.done()
    }
}

fn attached(snapshot: &Snapshot) -> Option<MetricFamily> {
    // The plan may list a function twice, once attached and once not: attached wins.
    let mut probes: BTreeMap<_, bool> = BTreeMap::new();
    for probe in &snapshot.probes {
        let key = (probe.group.name(), probe.function.as_str(), probe.method.name());
        *probes.entry(key).or_default() |= probe.attached;
    }
    let mut family = Family::gauge("stable_trace_probe_attached", "Whether a probe is attached.");
    for ((group, function, method), attached) in probes.into_iter().take(limits::PROBES) {
        let labels = [("group", group), ("function", function), ("method", method)];
        family.value(&labels, f64::from(u8::from(attached)));
    }
    family.done()
}

fn outputs_lost(outputs: &BTreeMap<Output, u64>) -> Option<MetricFamily> {
    let mut family = Family::counter(
        "stable_trace_output_lost_total",
        "Lines that an output lacks because it was too slow, or could not be written.",
    );
    for (output, lines) in outputs.iter().take(limits::OUTPUTS) {
        family.value(&[("output", output.name())], count(*lines));
    }
    family.done()
}

fn programs(programs: &[Program]) -> [Option<MetricFamily>; 2] {
    let mut time = Family::counter(
        "stable_trace_program_run_seconds_total",
        "CPU time of an eBPF program, as measured by the kernel.",
    );
    let mut runs = Family::counter("stable_trace_program_runs_total", "Runs of an eBPF program.");
    for program in programs.iter().take(limits::PROGRAMS) {
        time.value(&[("program", &program.name)], seconds(program.run_ns));
        runs.value(&[("program", &program.name)], count(program.runs));
    }
    [time.done(), runs.done()]
}

fn maps(maps: &[MapFill]) -> [Option<MetricFamily>; 2] {
    let mut entries = Family::gauge(
        "stable_trace_map_entries",
        "Entries in a kernel map; for EVENTS, unread bytes in the ring buffer.",
    );
    let mut capacity = Family::gauge(
        "stable_trace_map_capacity",
        "Maximum entries of a kernel map; for EVENTS, the size of the ring buffer in bytes.",
    );
    for map in maps.iter().take(limits::MAPS) {
        entries.value(&[("map", &map.name)], count(map.entries));
        capacity.value(&[("map", &map.name)], count(map.capacity));
    }
    [entries.done(), capacity.done()]
}

fn map_bytes(maps: &BTreeMap<String, u64>) -> Option<MetricFamily> {
    let mut family = Family::gauge(
        "stable_trace_map_bytes",
        "Kernel memory of a map, for all CPUs, as the kernel states it.",
    );
    for (map, bytes) in maps.iter().take(limits::MAP_BYTES) {
        family.value(&[("map", map)], count(*bytes));
    }
    family.done()
}

fn workload(workload: &BTreeMap<(String, String), ModeCount>) -> [Option<MetricFamily>; 2] {
    let mut operations = Family::counter(
        "stable_trace_workload_operations_total",
        "Writes and stores of the paired workload, each including its sync.",
    );
    let mut bytes = Family::counter(
        "stable_trace_workload_bytes_total",
        "Bytes that the paired workload wrote.",
    );
    for ((profile, mode), counts) in workload.iter().take(limits::WORKLOADS) {
        let labels = [("profile", profile.as_str()), ("mode", mode.as_str())];
        operations.value(&labels, count(counts.operations));
        bytes.value(&labels, count(counts.bytes));
    }
    [operations.done(), bytes.done()]
}

fn process(process: &ProcessMetrics) -> Vec<Option<MetricFamily>> {
    let gauge = |name, help, value: Option<f64>| {
        let mut family = Family::gauge(name, help);
        family.value(&[], value?);
        family.done()
    };
    let whole = |value: Option<u64>| value.map(count);
    let mut cpu =
        Family::counter("process_cpu_seconds_total", "User and system CPU time in seconds.");
    if let Some(seconds) = process.cpu_seconds {
        cpu.value(&[], seconds);
    }
    vec![
        cpu.done(),
        gauge("process_open_fds", "Open file descriptors.", whole(process.open_fds)),
        gauge(
            "process_max_fds",
            "Maximum number of open file descriptors.",
            whole(process.max_fds),
        ),
        gauge(
            "process_virtual_memory_bytes",
            "Virtual memory in bytes.",
            whole(process.virtual_bytes),
        ),
        gauge(
            "process_resident_memory_bytes",
            "Resident memory in bytes.",
            whole(process.resident_bytes),
        ),
        gauge(
            "process_start_time_seconds",
            "Start time of the process since unix epoch in seconds.",
            process.start_seconds,
        ),
        gauge("process_threads", "Threads of the process.", whole(process.threads)),
    ]
}
