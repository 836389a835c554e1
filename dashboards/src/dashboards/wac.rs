//! Throughput of the write-after-checksum workload (wac), and the effect of stable pages on it.

use crate::dashboard::Dashboard;
use crate::panel::Panel;
use crate::query::Query;

use super::{NO_STALL, RED_FROM_ONE, STABLE_PAGES, ZERO, total};

const OPERATIONS: &str = r#"stable_trace_workload_operations_total{%, profile=~"$profile"}"#;
const BYTES: &str = r#"stable_trace_workload_bytes_total{%, profile=~"$profile"}"#;
const ERRORS: &str = r#"stable_trace_workload_errors_total{%, profile=~"$profile"}"#;

/// The text of a workload panel without data.
const NO_WORKLOAD: &str = "no workload";

pub(super) fn dashboard() -> Dashboard {
    Dashboard::new(
        "wac-and-experiments",
        "wac and experiments",
        "The write-after-checksum workload (wac): throughput, stalls, and the effect of stable \
         pages.",
    )
    .variable("profile", "Profile", "stable_trace_workload_operations_total")
    .row("Summary", summary())
    .row("Workload", workload())
    .row("Effect of stable pages", comparison())
}

fn summary() -> Vec<Panel> {
    vec![
        Panel::stat("Operations", "Rewrites per second.")
            .unit("ops")
            .no_value(ZERO)
            .query(Query::range(&sum_of_rate(OPERATIONS), "operations")),
        Panel::stat("Bytes", "Bytes rewritten per second.")
            .unit("Bps")
            .no_value(ZERO)
            .query(Query::range(&sum_of_rate(BYTES), "bytes")),
        total("Errors", "Operations that failed in the time range.", ERRORS, "errors")
            .thresholds(&RED_FROM_ONE),
        Panel::stat(
            "Stalls per operation",
            "Stable-page stalls per rewrite. Stalls of all processes on the same machines count.",
        )
        .unit("short")
        .no_value(NO_WORKLOAD)
        .query(Query::range(&per_operation("count"), "stalls per operation")),
        Panel::stat(
            "Stall time per operation",
            "Mean stable-page stall time per rewrite. Stalls of all processes on the same machines \
             count.",
        )
        .unit("s")
        .no_value(NO_WORKLOAD)
        .query(Query::range(&per_operation("sum"), "stall time")),
        total(
            "Integrity errors",
            "Failed checks in the time range, on all devices of the same machines.",
            "stable_trace_integrity_errors_total{%}",
            "errors",
        )
        .thresholds(&RED_FROM_ONE),
    ]
}

fn sum_of_rate(selector: &str) -> String {
    format!("sum(rate({selector}[$__rate_interval]))")
}

/// A series of the stable-page stall histogram, divided by the operations of the workload.
fn per_operation(suffix: &str) -> String {
    let stalls = format!("stable_trace_stall_seconds_{suffix}{{%, {STABLE_PAGES}}}");
    format!("{} / ({} > 0)", sum_of_rate(&stalls), sum_of_rate(OPERATIONS))
}

fn workload() -> Vec<Panel> {
    let by_mode =
        |selector: &str| format!("sum by (profile, mode) (rate({selector}[$__rate_interval]))");
    vec![
        Panel::time_series("Operations, by profile and mode", "Rewrites per second.")
            .unit("ops")
            .no_value(NO_WORKLOAD)
            .query(Query::range(&by_mode(OPERATIONS), "{{profile}} {{mode}}")),
        Panel::time_series("Bytes, by profile and mode", "Bytes rewritten per second.")
            .unit("Bps")
            .no_value(NO_WORKLOAD)
            .query(Query::range(&by_mode(BYTES), "{{profile}} {{mode}}")),
        Panel::stacked_bars("Errors, by profile and errno", "EILSEQ is a failed integrity check.")
            .unit("short")
            .no_value("no error")
            .query(Query::range(
                &format!("sum by (profile, mode, errno) (increase({ERRORS}[$__rate_interval]))"),
                "{{profile}} {{mode}} {{errno}}",
            )),
        Panel::stacked_areas(
            "wac threads waiting, by context",
            "Mean number of waiting wac threads.",
        )
        .unit("short")
        .no_value(NO_WORKLOAD)
        .query(Query::range(
            "sum by (context) (rate(stable_trace_process_stall_seconds_total{%, \
             comm=~\"wac.*\"}[$__rate_interval]))",
            "{{context}}",
        )),
    ]
}

fn comparison() -> Vec<Panel> {
    vec![
        Panel::state_timeline(
            "Stable pages required",
            "An experiment alternates between on and off. Compare with the operations above.",
        )
        .unit("short")
        .value_mappings(&[("0", "off", "orange"), ("1", "on", "green")])
        .query(Query::range(
            "max by (instance, device) (stable_trace_device_stable_writes{%})",
            "{{instance}} {{device}}",
        )),
        Panel::heatmap(
            "Stable-page stalls",
            "Waits in each bucket. Empty while stable pages are off.",
        )
        .unit("s")
        .no_value(NO_STALL)
        .query(Query::heatmap(&format!(
            "sum by (le) (increase(stable_trace_stall_seconds_bucket{{%, \
             {STABLE_PAGES}}}[$__rate_interval]))"
        ))),
    ]
}
