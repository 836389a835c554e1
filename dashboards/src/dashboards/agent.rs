//! The agent's cost, its losses, and its probes.

use serde_json::json;

use crate::dashboard::Dashboard;
use crate::panel::{Panel, value_mappings};
use crate::query::Query;

use super::{RED_FROM_ONE, YELLOW_FROM_ONE, ZERO, total};

/// The text of a panel of program statistics without data.
const NOT_MEASURED: &str = "not measured";

pub(super) fn dashboard() -> Dashboard {
    Dashboard::new("agent", "Agent", "The agent's cost, lost events, and probe coverage.")
        .row("Summary", summary())
        .row("Cost", cost())
        .row("Loss", loss())
        .row("Probes", probes())
}

fn summary() -> Vec<Panel> {
    vec![
        Panel::stat("Agents down", "Targets of the selected jobs that Prometheus cannot scrape.")
            .unit("none")
            .no_value(ZERO)
            .thresholds(&RED_FROM_ONE)
            .without_sparkline()
            .query(Query::range("count(up{%} == 0)", "down")),
        Panel::stat("Versions", "Versions of the running agents.")
            .unit("string")
            .no_value("none")
            .show_names()
            .query(Query::instant(
                "count by (version) (stable_trace_build_info{%})",
                "{{version}}",
            )),
        Panel::stat("CPU", "Cores used by the agents, without their eBPF programs.")
            .unit("short")
            .no_value("none")
            .query(Query::range(
                "sum(rate(process_cpu_seconds_total{%}[$__rate_interval]))",
                "cores",
            )),
        Panel::stat(
            "CPU of eBPF programs",
            "Cores used by the eBPF programs, in the traced tasks.",
        )
        .unit("short")
        .no_value(NOT_MEASURED)
        .query(Query::range(
            "sum(rate(stable_trace_program_run_seconds_total{%}[$__rate_interval]))",
            "cores",
        )),
        total(
            "Events lost",
            "Events lost in the time range. Counters and histograms stay exact.",
            "stable_trace_events_lost_total{%}",
            "lost",
        )
        .thresholds(&YELLOW_FROM_ONE),
        Panel::stat("Groups without a probe", "Probe groups that the agents do not trace at all.")
            .unit("none")
            .no_value(ZERO)
            .thresholds(&YELLOW_FROM_ONE)
            .without_sparkline()
            .query(Query::range(
                "count(max by (instance, group) (stable_trace_probe_attached{%}) == 0)",
                "groups",
            )),
    ]
}

fn cost() -> Vec<Panel> {
    vec![
        Panel::time_series("CPU", "Cores used by each agent, without its eBPF programs.")
            .unit("short")
            .query(Query::range(
                "rate(process_cpu_seconds_total{%}[$__rate_interval])",
                "{{instance}}",
            )),
        Panel::stacked_areas(
            "CPU of eBPF programs",
            "Cores used by each program. The kernel measures this only while the agent is scraped.",
        )
        .unit("short")
        .no_value(NOT_MEASURED)
        .query(Query::range(
            "sum by (program) \
             (rate(stable_trace_program_run_seconds_total{%}[$__rate_interval]))",
            "{{program}}",
        )),
        Panel::time_series("Time per run", "Mean run time of each eBPF program.")
            .unit("s")
            .log_scale()
            .no_value(NOT_MEASURED)
            .query(Query::range(
                "sum by (program) \
                 (rate(stable_trace_program_run_seconds_total{%}[$__rate_interval])) / \
                 (sum by (program) (rate(stable_trace_program_runs_total{%}[$__rate_interval])) > 0)",
                "{{program}}",
            )),
        Panel::time_series(
            "Stack walks",
            "Kernel stacks that each agent walks per second. The stacks of the other waits are \
             recognised, at a small part of the cost.",
        )
        .unit("cps")
        .query(Query::range(
            "rate(stable_trace_stack_walks_total{%}[$__rate_interval])",
            "{{instance}}",
        )),
        Panel::time_series("Runs", "Runs of each eBPF program per second.")
            .unit("cps")
            .no_value(NOT_MEASURED)
            .query(Query::range(
                "sum by (program) (rate(stable_trace_program_runs_total{%}[$__rate_interval]))",
                "{{program}}",
            )),
        Panel::time_series("Memory", "Resident memory of each agent, and the kernel memory of its maps, which it does not contain.")
            .unit("bytes")
            .query(Query::range("process_resident_memory_bytes{%}", "{{instance}}"))
            .query(Query::range(
                "sum by (instance) (stable_trace_map_bytes{%})",
                "{{instance}} maps in the kernel",
            )),
        Panel::time_series("Threads and open files", "Threads and open files of each agent.")
            .unit("short")
            .query(Query::range("process_threads{%}", "{{instance}} threads"))
            .query(Query::range("process_open_fds{%}", "{{instance}} open files")),
        Panel::time_series("Scrape duration", "Time that Prometheus takes to scrape each agent.")
            .unit("s")
            .query(Query::range("scrape_duration_seconds{%}", "{{instance}}")),
        Panel::time_series("Uptime", "Time since each agent started. A drop to zero is a restart.")
            .unit("s")
            .query(Query::range("time() - process_start_time_seconds{%}", "{{instance}}")),
    ]
}

fn loss() -> Vec<Panel> {
    vec![
        Panel::time_series("Events", "Events received and lost by each agent per second.")
            .unit("cps")
            .override_fields("lost$", &[("color", json!({"fixedColor": "red", "mode": "fixed"}))])
            .query(Query::range(
                "rate(stable_trace_events_received_total{%}[$__rate_interval])",
                "{{instance}} received",
            ))
            .query(Query::range(
                "rate(stable_trace_events_lost_total{%}[$__rate_interval])",
                "{{instance}} lost",
            )),
        Panel::time_series(
            "Lines that an output lacks",
            "Lines per second that an output of an agent did not take in time, or that could not be written. \
             The agent has seen and counted them.",
        )
        .unit("cps")
        .query(Query::range(
            "sum by (instance, output) (rate(stable_trace_output_lost_total{%}[$__rate_interval]))",
            "{{instance}} {{output}}",
        )),
        Panel::time_series(
            "Integrity errors reported again",
            "Errors per second that a stacked device reported after the device below it. They are counted once.",
        )
        .unit("cps")
        .query(Query::range(
            "rate(stable_trace_integrity_repeated_total{%}[$__rate_interval])",
            "{{instance}}",
        )),
        Panel::time_series(
            "Integrity errors without evidence",
            "Errors per second of which not all data was copied: there were too many at once.",
        )
        .unit("cps")
        .query(Query::range(
            "rate(stable_trace_evidence_skipped_total{%}[$__rate_interval])",
            "{{instance}}",
        )),
        Panel::time_series(
            "Maps",
            "Used share of each BPF map's capacity. A full map drops or evicts entries.",
        )
        .unit("percentunit")
        .max(1.0)
        .thresholds(&[(0.9, "red")])
        .query(Query::range(
            "stable_trace_map_entries{%} / (stable_trace_map_capacity{%} > 0)",
            "{{instance}} {{map}}",
        )),
    ]
}

fn probes() -> Vec<Panel> {
    vec![
        Panel::table(
            "Probes",
            "Each probe, its attach method, and whether it is attached. An alternative probe can \
             replace one that is not attached: every group needs one attached probe.",
            &["__name__"],
            &[
                ("instance", "Instance"),
                ("group", "Group"),
                ("function", "Function"),
                ("method", "Method"),
                ("Value", "Attached"),
            ],
        )
        .unit("short")
        .override_fields(
            "Attached",
            &[("mappings", value_mappings(&[("0", "no", "orange"), ("1", "yes", "green")]))],
        )
        .query(Query::table(
            "max by (instance, group, function, method) (stable_trace_probe_attached{%})",
        )),
        Panel::time_series(
            "Missed runs",
            "Probe runs per second that the kernel skipped. Each can be an uncounted stall.",
        )
        .unit("cps")
        .no_value("none missed")
        .query(Query::range(
            "sum by (instance, function) \
             (rate(stable_trace_probe_missed_total{%}[$__rate_interval]))",
            "{{instance}} {{function}}",
        )),
    ]
}
