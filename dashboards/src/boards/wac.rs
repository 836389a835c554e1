//! The write-after-checksum workload, and what stable pages cost it.

use crate::board::Board;
use crate::panel::Panel;
use crate::query::Query;

use super::{NONE, STABLE};

const OPERATIONS: &str = r#"stable_trace_workload_operations_total{%, profile=~"$profile"}"#;
const BYTES: &str = r#"stable_trace_workload_bytes_total{%, profile=~"$profile"}"#;
const ERRORS: &str = r#"stable_trace_workload_errors_total{%, profile=~"$profile"}"#;

pub(super) fn board() -> Board {
    Board::new(
        "wac-and-experiments",
        "wac and experiments",
        "The write-after-checksum workload: how fast it goes, what it waits for, and the \
         difference that stable pages make.",
    )
    .variable("profile", "Profile", "stable_trace_workload_operations_total")
    .section("In one look", numbers())
    .section("The workload", workload())
    .section("With and without stable pages", comparison())
}

fn numbers() -> Vec<Panel> {
    vec![
        Panel::number("Operations", "Rewrites a second.")
            .unit("ops")
            .without_data(NONE)
            .ask(Query::new(&format!("sum(rate({OPERATIONS}[$__rate_interval]))"), "operations")),
        Panel::number("Bytes", "Bytes rewritten a second.")
            .unit("Bps")
            .without_data(NONE)
            .ask(Query::new(&format!("sum(rate({BYTES}[$__rate_interval]))"), "bytes")),
        Panel::number("Errors", "Operations that failed in the time shown.")
            .unit("short")
            .decimals(0)
            .without_data(NONE)
            .steps(&[(0.5, "red")])
            .plain()
            .ask(Query::now(&format!("sum(increase({ERRORS}[$__range]))"), "errors")),
        Panel::number(
            "Stalls an operation",
            "How many waits that stable pages caused there were for each rewrite, of all \
             processes on the same machines.",
        )
        .unit("short")
        .without_data("no workload")
        .ask(Query::new(
            &format!(
                "sum(rate(stable_trace_stall_seconds_count{{%, {STABLE}}}[$__rate_interval])) / \
                 (sum(rate({OPERATIONS}[$__rate_interval])) > 0)"
            ),
            "stalls an operation",
        )),
        Panel::number(
            "Waited an operation",
            "Seconds that stable pages cost for each rewrite, on average.",
        )
        .unit("s")
        .without_data("no workload")
        .ask(Query::new(
            &format!(
                "sum(rate(stable_trace_stall_seconds_sum{{%, {STABLE}}}[$__rate_interval])) / \
                 (sum(rate({OPERATIONS}[$__rate_interval])) > 0)"
            ),
            "waited",
        )),
        Panel::number(
            "Integrity errors",
            "Failed checks in the time shown, on any device of the same machines.",
        )
        .unit("short")
        .decimals(0)
        .without_data(NONE)
        .steps(&[(0.5, "red")])
        .plain()
        .ask(Query::now(
            "sum(increase(stable_trace_integrity_errors_total{%}[$__range]))",
            "errors",
        )),
    ]
}

fn workload() -> Vec<Panel> {
    let by_mode =
        |series: &str| format!("sum by (profile, mode) (rate({series}[$__rate_interval]))");
    vec![
        Panel::lines("Operations, by profile and mode", "Rewrites a second.")
            .unit("ops")
            .without_data("no workload")
            .ask(Query::new(&by_mode(OPERATIONS), "{{profile}} {{mode}}")),
        Panel::lines("Bytes, by profile and mode", "Bytes rewritten a second.")
            .unit("Bps")
            .without_data("no workload")
            .ask(Query::new(&by_mode(BYTES), "{{profile}} {{mode}}")),
        Panel::bars("Errors, by profile and errno", "EILSEQ is a failed integrity check.")
            .unit("short")
            .without_data("no error")
            .ask(Query::new(
                &format!("sum by (profile, mode, errno) (increase({ERRORS}[$__rate_interval]))"),
                "{{profile}} {{mode}} {{errno}}",
            )),
        Panel::areas(
            "Tasks of wac that wait, by context",
            "Seconds that the workload's own threads waited a second. Each thread has a name of its own, \
             and 50 names have series: the rest of them is in `other`, not here.",
        )
        .unit("short")
        .without_data("no workload")
        .ask(Query::new(
            "sum by (context) (rate(stable_trace_process_stall_seconds_total{%, \
             comm=~\"wac.*\"}[$__rate_interval]))",
            "{{context}}",
        )),
    ]
}

fn comparison() -> Vec<Panel> {
    vec![
        Panel::states(
            "Stable pages asked for",
            "An experiment switches them on and off by turns: hold this against the operations \
             above.",
        )
        .unit("short")
        .words(&[("0", "off", "orange"), ("1", "on", "green")])
        .ask(Query::new(
            "max by (instance, device) (stable_trace_device_stable_writes{%})",
            "{{instance}} {{device}}",
        )),
        Panel::heat(
            "Stable-page stalls",
            "How many waits fell into each bucket: empty while stable pages are off.",
        )
        .unit("s")
        .without_data("no stall")
        .ask(Query::buckets(&format!(
            "sum by (le) (increase(stable_trace_stall_seconds_bucket{{%, \
             {STABLE}}}[$__rate_interval]))"
        ))),
    ]
}
