//! The section about the traced machine: its kernel, probes and devices, and the cost of the run.

use maud::{Markup, html};

use super::labels::{grouped, or_dash};
use crate::{
    event::{Device, Probe, Start},
    report::Report,
    sink::format::duration,
    units::DeviceId,
};

/// The limit of rows in each table.
const MAX_ROWS: usize = 100;

pub(super) fn section(report: &Report) -> Markup {
    let Some(start) = &report.start else { return html! {} };
    html! {
        section #environment aria-labelledby="environment-title" {
            h2 #environment-title { "Environment" }
            (system(start, report))
            (probes(&start.probes))
            (devices(&start.devices))
            (cost(report))
        }
    }
}

fn system(start: &Start, report: &Report) -> Markup {
    let preemption = start.preemption.and_then(|model| {
        let name = serde_json::to_value(model).ok()?;
        name.as_str().map(str::to_owned)
    });
    html! {
        dl .list {
            div { dt { "Kernel" } dd { (start.kernel) } }
            div { dt { "Machine" } dd { (start.hostname) ", " (start.arch) } }
            @if let Some(preemption) = preemption { div { dt { "Preemption" } dd { (preemption) } } }
            div { dt { "stable-trace" } dd { (start.version) ", format " (start.format) } }
            @if let Some(ns) = start.min_latency_ns { div { dt { "Stall threshold" } dd { (duration(ns)) } } }
            @if let Some(scope) = &start.scope { div { dt { "Traced tasks and devices" } dd { (scope) } } }
            @if start.filtered { div { dt { "Traced tasks" } dd { "filtered by --pid, --comm or --cgroup" } } }
            @if !start.only_devices.is_empty() { div { dt { "Traced devices" } dd { "only " (joined(&start.only_devices)) } } }
            @if let Some(ns) = start.window_ns { div { dt { "Correlation window" } dd { (duration(ns)) } } }
            @if let Some(workload) = &report.summary.workload {
                div { dt { "Workload" } dd {
                    "wac " (workload.profile) ", " (workload.threads) " threads: " (grouped(workload.operations)) " operations"
                    @for (errno, count) in &workload.errors { ", " (count) " " (errno) }
                } }
            }
        }
    }
}

fn probes(probes: &[Probe]) -> Markup {
    let missing = probes.iter().filter(|probe| !probe.attached).count();
    html! {
        h3 { "Probes" }
        p .note {
            (probes.len() - missing) " attached"
            @if missing > 0 { "; " b { (missing) } " not" }
            "."
        }
        @if missing > 0 {
            details open[probes.len() == missing] {
                summary { "Probes that are not attached" }
                (probe_table(probes, false))
            }
        }
        details {
            summary { "Attached probes" }
            (probe_table(probes, true))
        }
    }
}

fn probe_table(probes: &[Probe], attached: bool) -> Markup {
    let label = if attached { "Probes that are attached" } else { "Probes that did not attach" };
    html! {
        div .scroll tabindex="0" role="region" aria-label=(label) {
            table {
                thead { tr { th { "Group" } th { "Function" } th { "Method" } @if !attached { th { "Reason" } } } }
                tbody {
                    @for probe in probes.iter().filter(|probe| probe.attached == attached).take(MAX_ROWS) {
                        tr {
                            td { code { (probe.group.name()) } }
                            td { code { (probe.function) } }
                            td { (probe.method.name()) }
                            @if !attached { td .why { (or_dash(probe.reason.as_deref())) } }
                        }
                    }
                }
            }
        }
    }
}

fn devices(devices: &[Device]) -> Markup {
    html! {
        h3 { "Devices" }
        div .scroll tabindex="0" role="region" aria-label="Devices" {
            table #devices {
                thead { tr { th { "Device" } th { "Number" } th { "Stable pages" } th { "Protection information" } } }
                tbody {
                    @for device in devices.iter().take(MAX_ROWS) {
                        tr {
                            td { (device.device) }
                            td { (device.dev) }
                            td { @if device.stable_writes { b { "yes" } } @else { "no" } }
                            td {
                                @if let Some(integrity) = &device.integrity {
                                    (integrity.format) ", " (integrity.tag_size) " tag bytes"
                                } @else { "–" }
                            }
                        }
                    }
                }
            }
        }
        @if devices.len() > MAX_ROWS { p .note { (devices.len() - MAX_ROWS) " more are not shown." } }
    }
}

/// Losses and overhead of the run.
fn cost(report: &Report) -> Markup {
    let summary = &report.summary;
    let missed: u64 = summary.probe_runs_missed.values().sum();
    html! {
        @if !summary.incomplete {
            h3 { "Completeness and overhead" }
            dl .list {
                div { dt { "Stalls below the threshold" } dd { (grouped(summary.stalls_below_threshold)) ", counted but not streamed" } }
                div { dt { "Lost events" } dd { (grouped(summary.events_lost)) } }
                @for (output, count) in &summary.outputs_lost {
                    div { dt { "Lines that an output lacks" } dd { (grouped(*count)) " (" (output.name()) ")" } }
                }
                div { dt { "Integrity errors without all evidence" } dd { (grouped(summary.evidence_skipped)) } }
                div { dt { "Missed probe runs" } dd { (grouped(missed)) } }
                div { dt { "Unfinished waits at the end" } dd { (grouped(summary.waits_unfinished)) } }
                @for (what, count) in summary.map_failures.iter().take(MAX_ROWS) {
                    div { dt { "Insertions into a full map" } dd { (grouped(*count)) ": " (what) } }
                }
                div { dt { "CPU of the agent" } dd { (duration(summary.agent_cpu_ns)) } }
                div { dt { "CPU of the probes" } dd { (duration(summary.bpf_cpu_ns)) } }
            }
        }
    }
}

/// Joins device numbers by commas.
fn joined(devices: &[DeviceId]) -> String {
    devices.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
