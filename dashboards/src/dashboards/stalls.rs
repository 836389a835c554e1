//! Waits for writeback: duration, rate, processes and devices.

use crate::dashboard::Dashboard;
use crate::panel::Panel;
use crate::query::Query;

use super::{NO_STALL, STABLE_PAGES, ZERO, quantile};

pub(super) fn dashboard() -> Dashboard {
    Dashboard::new(
        "stalls",
        "Stalls",
        "Waits for writeback: duration, rate, waiting processes and devices.",
    )
    .variable("context", "Context", "stable_trace_stall_seconds_count")
    .variable("device", "Device", "stable_trace_stall_seconds_count")
    .variable("fs", "File system", "stable_trace_stall_seconds_count")
    .annotation(
        "Integrity errors",
        "sum by (device, op, check) \
         (increase(stable_trace_integrity_errors_total{%}[$__rate_interval])) > 0",
        "{{device}}: {{op}}, {{check}}",
    )
    .row("Summary", summary())
    .row("Latency", latency())
    .row("Stall time", stall_time())
    .row("Processes", processes())
    .row("By context", vec![heatmap_of_each("context", "$context")])
    .row("By device", vec![heatmap_of_each("device", "$device")])
}

/// A series of the stall histogram, as selected by the dashboard's variables.
fn selected(suffix: &str) -> String {
    format!(
        "stable_trace_stall_seconds_{suffix}\
         {{%, context=~\"$context\", device=~\"$device\", fs=~\"$fs\"}}"
    )
}

/// `sum` of a series' rate; `by` is empty or a clause such as `by (device) `.
fn sum_of_rate(by: &str, suffix: &str) -> String {
    format!("sum{by}(rate({}[$__rate_interval]))", selected(suffix))
}

fn summary() -> Vec<Panel> {
    let selected_quantile = |value: &str| quantile(value, "le", &selected("bucket"));
    vec![
        Panel::stat("Stalls", "Waits per second.")
            .unit("cps")
            .no_value(ZERO)
            .query(Query::range(&sum_of_rate("", "count"), "stalls")),
        Panel::stat("Tasks waiting", "Mean number of waiting tasks: seconds waited per second.")
            .unit("short")
            .no_value(ZERO)
            .query(Query::range(&sum_of_rate("", "sum"), "tasks")),
        Panel::stat("Median", "Half of the waits are shorter. Exact within a factor of two.")
            .unit("s")
            .no_value(NO_STALL)
            .query(Query::range(&selected_quantile("0.5"), "p50")),
        Panel::stat("p99", "99 of 100 waits are shorter. Exact within a factor of two.")
            .unit("s")
            .no_value(NO_STALL)
            .query(Query::range(&selected_quantile("0.99"), "p99")),
        Panel::stat("Maximum", "Upper bound of the highest bucket that contains a wait.")
            .unit("s")
            .no_value(NO_STALL)
            .query(Query::range(&selected_quantile("1"), "maximum")),
        Panel::stat(
            "Stable-page share",
            "Share of the stall time that stable pages cause. The rest has the contexts sync and \
             other.",
        )
        .unit("percentunit")
        .max(1.0)
        .no_value(NO_STALL)
        .query(Query::range(
            &format!(
                "sum(rate(stable_trace_stall_seconds_sum{{%, device=~\"$device\", fs=~\"$fs\", \
                 {STABLE_PAGES}}}[$__rate_interval])) / \
                 (sum(rate(stable_trace_stall_seconds_sum{{%, device=~\"$device\", \
                 fs=~\"$fs\"}}[$__rate_interval])) > 0)"
            ),
            "stable pages",
        )),
    ]
}

fn latency() -> Vec<Panel> {
    let by = |labels: &str, value: &str| quantile(value, labels, &selected("bucket"));
    vec![
        Panel::heatmap(
            "Stall duration",
            "Waits in each bucket. Two bands are two kinds of waits: see the heat maps by context \
             and by device below.",
        )
        .unit("s")
        .no_value(NO_STALL)
        .query(Query::heatmap(&format!(
            "sum by (le) (increase({}[$__rate_interval]))",
            selected("bucket")
        ))),
        Panel::time_series("Percentiles", "All selected stalls. Exact within a factor of two.")
            .unit("s")
            .log_scale()
            .size(12, 9)
            .query(Query::range(&by("le", "0.5"), "p50"))
            .query(Query::range(&by("le", "0.9"), "p90"))
            .query(Query::range(&by("le", "0.99"), "p99"))
            .query(Query::range(&by("le", "0.999"), "p99.9")),
        Panel::time_series("p99, by context", "99 of 100 waits in the context are shorter.")
            .unit("s")
            .log_scale()
            .query(Query::range(&by("le, context", "0.99"), "{{context}}")),
        Panel::time_series("p99, by device", "99 of 100 waits for the device are shorter.")
            .unit("s")
            .log_scale()
            .query(Query::range(&by("le, instance, device", "0.99"), "{{instance}} {{device}}")),
    ]
}

fn stall_time() -> Vec<Panel> {
    let by_context = " by (context) ";
    let by_device = " by (instance, device, fs) ";
    let device_legend = "{{instance}} {{device}} {{fs}}";
    vec![
        Panel::stacked_areas("Tasks waiting, by context", "Mean number of waiting tasks.")
            .unit("short")
            .query(Query::range(&sum_of_rate(by_context, "sum"), "{{context}}")),
        Panel::stacked_areas("Tasks waiting, by device", "Mean number of waiting tasks.")
            .unit("short")
            .query(Query::range(&sum_of_rate(by_device, "sum"), device_legend)),
        Panel::time_series("Stalls, by context", "Waits per second.")
            .unit("cps")
            .query(Query::range(&sum_of_rate(by_context, "count"), "{{context}}")),
        Panel::time_series("Stalls, by device", "Waits per second.")
            .unit("cps")
            .query(Query::range(&sum_of_rate(by_device, "count"), device_legend)),
    ]
}

fn processes() -> Vec<Panel> {
    let processes = r#"stable_trace_process_stall_seconds_total{%, context=~"$context"}"#;
    vec![
        Panel::stacked_areas(
            "Tasks waiting, by process",
            "Mean number of waiting tasks of the ten process names that wait longest. Names \
             without a series of their own are in `other`. The variables Device and File system \
             have no effect: this metric has neither label.",
        )
        .unit("short")
        .query(Query::range(
            &format!("topk(10, sum by (comm) (rate({processes}[$__rate_interval])))"),
            "{{comm}}",
        )),
        Panel::bar_gauge("Processes by stall time", "Seconds waited in the time range.")
            .unit("s")
            .no_value(NO_STALL)
            .query(Query::instant(
                &format!("topk(15, sum by (comm, context) (increase({processes}[$__range])))"),
                "{{comm}} {{context}}",
            )),
    ]
}

/// A heat map repeated for each value of `variable`.
fn heatmap_of_each(variable: &'static str, title: &str) -> Panel {
    let other = if variable == "context" { "device" } else { "context" };
    let expression = format!(
        "sum by (le) (increase(stable_trace_stall_seconds_bucket{{%, {variable}=~\"${variable}\", \
         {other}=~\"${other}\", fs=~\"$fs\"}}[$__rate_interval]))"
    );
    Panel::heatmap(title, &format!("Waits in each bucket, for one {variable}."))
        .unit("s")
        .no_value(NO_STALL)
        .repeat_for(variable)
        .query(Query::heatmap(&expression))
}
