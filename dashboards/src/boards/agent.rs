//! The agent itself: what it costs, what it loses, what it cannot see.

use serde_json::json;

use crate::board::Board;
use crate::panel::Panel;
use crate::query::Query;

use super::NONE;

pub(super) fn board() -> Board {
    Board::new(
        "agent",
        "Agent",
        "The agent itself: what it costs, what it loses, and what it cannot see.",
    )
    .section("In one look", numbers())
    .section("Cost", cost())
    .section("Loss", loss())
    .section("Probes", probes())
}

fn numbers() -> Vec<Panel> {
    vec![
        Panel::number("Agents down", "Targets of the chosen jobs that do not answer.")
            .unit("none")
            .without_data(NONE)
            .steps(&[(0.5, "red")])
            .plain()
            .ask(Query::new("count(up{%} == 0)", "down")),
        Panel::number("Versions", "Of the agents that answer.")
            .unit("string")
            .without_data("none")
            .show_names()
            .ask(Query::now("count by (version) (stable_trace_build_info{%})", "{{version}}")),
        Panel::number("CPU", "Cores that the agents use, without their eBPF programs.")
            .unit("short")
            .without_data("none")
            .ask(Query::new("sum(rate(process_cpu_seconds_total{%}[$__rate_interval]))", "cores")),
        Panel::number("CPU of eBPF programs", "Cores that the programs use, in whatever task.")
            .unit("short")
            .without_data("not measured")
            .ask(Query::new(
                "sum(rate(stable_trace_program_run_seconds_total{%}[$__rate_interval]))",
                "cores",
            )),
        Panel::number("Events lost", "In the time shown. Counters and histograms lose nothing.")
            .unit("short")
            .decimals(0)
            .without_data(NONE)
            .steps(&[(0.5, "yellow")])
            .plain()
            .ask(Query::now("sum(increase(stable_trace_events_lost_total{%}[$__range]))", "lost")),
        Panel::number("Groups without a probe", "What the agents cannot see at all.")
            .unit("none")
            .without_data(NONE)
            .steps(&[(0.5, "yellow")])
            .plain()
            .ask(Query::new(
                "count(max by (instance, group) (stable_trace_probe_attached{%}) == 0)",
                "groups",
            )),
    ]
}

fn cost() -> Vec<Panel> {
    vec![
        Panel::lines("CPU", "Cores that each agent uses, without its eBPF programs.")
            .unit("short")
            .ask(Query::new("rate(process_cpu_seconds_total{%}[$__rate_interval])", "{{instance}}")),
        Panel::areas(
            "CPU of eBPF programs",
            "Cores that each program uses. Measured only while somebody scrapes.",
        )
        .unit("short")
        .without_data("not measured")
        .ask(Query::new(
            "sum by (program) \
             (rate(stable_trace_program_run_seconds_total{%}[$__rate_interval]))",
            "{{program}}",
        )),
        Panel::lines("Time a run", "Of each eBPF program, on average.")
            .unit("s")
            .logarithmic()
            .without_data("not measured")
            .ask(Query::new(
                "sum by (program) \
                 (rate(stable_trace_program_run_seconds_total{%}[$__rate_interval])) / \
                 (sum by (program) (rate(stable_trace_program_runs_total{%}[$__rate_interval])) > 0)",
                "{{program}}",
            )),
        Panel::lines("Runs", "Of each eBPF program, a second.")
            .unit("cps")
            .without_data("not measured")
            .ask(Query::new(
                "sum by (program) (rate(stable_trace_program_runs_total{%}[$__rate_interval]))",
                "{{program}}",
            )),
        Panel::lines("Memory", "Resident, of each agent.")
            .unit("bytes")
            .ask(Query::new("process_resident_memory_bytes{%}", "{{instance}}")),
        Panel::lines("Threads and open files", "Of each agent.")
            .unit("short")
            .ask(Query::new("process_threads{%}", "{{instance}} threads"))
            .ask(Query::new("process_open_fds{%}", "{{instance}} open files")),
        Panel::lines("Time a scrape", "How long Prometheus waited for each agent's metrics.")
            .unit("s")
            .ask(Query::new("scrape_duration_seconds{%}", "{{instance}}")),
        Panel::lines("Running for", "Since each agent started: a fall to zero is a restart.")
            .unit("s")
            .ask(Query::new("time() - process_start_time_seconds{%}", "{{instance}}")),
    ]
}

fn loss() -> Vec<Panel> {
    vec![
        Panel::lines("Events", "Streamed to each agent, and lost on the way, a second.")
            .unit("cps")
            .except("lost$", &[("color", json!({"fixedColor": "red", "mode": "fixed"}))])
            .ask(Query::new(
                "rate(stable_trace_events_received_total{%}[$__rate_interval])",
                "{{instance}} received",
            ))
            .ask(Query::new(
                "rate(stable_trace_events_lost_total{%}[$__rate_interval])",
                "{{instance}} lost",
            )),
        Panel::lines("Maps", "How full each of the kernel's maps is. A full one drops or evicts.")
            .unit("percentunit")
            .up_to(1.0)
            .steps(&[(0.9, "red")])
            .ask(Query::new(
                "stable_trace_map_entries{%} / (stable_trace_map_capacity{%} > 0)",
                "{{instance}} {{map}}",
            )),
    ]
}

fn probes() -> Vec<Panel> {
    vec![
        Panel::table(
            "Probes",
            "Where each is attached, and how. A probe that is not attached may have an \
             alternative that is: what counts is that no group is without.",
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
        .except(
            "Attached",
            &[(
                "mappings",
                json!([{"type": "value", "options": {
                    "0": {"color": "orange", "index": 0, "text": "no"},
                    "1": {"color": "green", "index": 1, "text": "yes"},
                }}]),
            )],
        )
        .ask(Query::rows(
            "max by (instance, group, function, method) (stable_trace_probe_attached{%})",
        )),
        Panel::lines(
            "Missed runs",
            "Times a second that the kernel skipped a probe: each may be a stall that was not \
             counted.",
        )
        .unit("cps")
        .without_data("none missed")
        .ask(Query::new(
            "sum by (instance, function) \
             (rate(stable_trace_probe_missed_total{%}[$__rate_interval]))",
            "{{instance}} {{function}}",
        )),
    ]
}
