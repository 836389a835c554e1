//! A summary of stalls, integrity errors and devices.

use crate::dashboard::Dashboard;
use crate::panel::{Panel, value_mappings};
use crate::query::Query;

use super::{NO_INTEGRITY_ERROR, NO_STALL, RED_FROM_ONE, STABLE_PAGES, ZERO, quantile, total};

pub(super) fn dashboard() -> Dashboard {
    Dashboard::new(
        "overview",
        "Overview",
        "Stalls by context and device, integrity errors and their causes.",
    )
    .row("Now", now())
    .row("Stalls", stalls())
    .row("Integrity", integrity())
    .row("Devices", devices())
}

fn now() -> Vec<Panel> {
    vec![
        Panel::stat("Agents", "Running agents.")
            .unit("none")
            .no_value(ZERO)
            .without_sparkline()
            .query(Query::range("count(stable_trace_build_info{%})", "agents")),
        Panel::stat("Stalls", "Waits for writeback per second, in all contexts.")
            .unit("cps")
            .no_value(ZERO)
            .query(Query::range(
                "sum(rate(stable_trace_stall_seconds_count{%}[$__rate_interval]))",
                "stalls",
            )),
        Panel::stat("Tasks waiting", "Tasks that wait for writeback at the time of the scrape.")
            .unit("short")
            .no_value(ZERO)
            .thresholds(&[(1.0, "yellow"), (10.0, "red")])
            .query(Query::range("sum(stable_trace_waiting_tasks{%})", "tasks")),
        Panel::stat(
            "Oldest wait",
            "For how long the oldest wait has lasted that has not ended. The other panels show a \
             wait once it is over.",
        )
        .unit("s")
        .no_value(ZERO)
        .thresholds(&[(1.0, "yellow"), (10.0, "red")])
        .query(Query::range("max(stable_trace_oldest_wait_seconds{%})", "oldest")),
        Panel::stat(
            "p99 of stable-page stalls",
            "99 of 100 stable-page stalls are shorter. Exact within a factor of two: buckets are \
             powers of two.",
        )
        .unit("s")
        .no_value(NO_STALL)
        .thresholds(&[(0.1, "yellow"), (1.0, "red")])
        .query(Query::range(&stable_page_quantile("0.99"), "p99")),
        total(
            "Integrity errors",
            "Failed checks of protection information in the time range.",
            "stable_trace_integrity_errors_total{%}",
            "errors",
        )
        .thresholds(&RED_FROM_ONE),
        total(
            "Unstable writes",
            "Pages given to a writer under writeback in the time range, although the mapping \
             requires stable pages (violation), or although a device below checks integrity \
             (hole). Harmless unstable writes are not counted.",
            r#"stable_trace_unstable_writes_total{%, grade=~"violation|hole"}"#,
            "unstable writes",
        )
        .thresholds(&RED_FROM_ONE),
    ]
}

fn stable_page_quantile(quantile_value: &str) -> String {
    let buckets = format!("stable_trace_stall_seconds_bucket{{%, {STABLE_PAGES}}}");
    quantile(quantile_value, "le", &buckets)
}

fn stalls() -> Vec<Panel> {
    vec![
        Panel::stacked_areas(
            "Tasks waiting, by context",
            "Mean number of waiting tasks. write_begin and page_mkwrite wait for stable pages; \
             sync waits for requested writeback, such as fsync.",
        )
        .unit("short")
        .query(Query::range(
            "sum by (context) (rate(stable_trace_stall_seconds_sum{%}[$__rate_interval]))",
            "{{context}}",
        )),
        Panel::time_series(
            "Stable-page stall percentiles",
            "If all percentiles rise, the disk is slow. If only p99 rises, few pages wait: find \
             their writers in the stalls dashboard.",
        )
        .unit("s")
        .log_scale()
        .query(Query::range(&stable_page_quantile("0.5"), "p50"))
        .query(Query::range(&stable_page_quantile("0.9"), "p90"))
        .query(Query::range(&stable_page_quantile("0.99"), "p99")),
        Panel::time_series("Stalls, by device", "Waits per second, in all contexts.")
            .unit("cps")
            .query(Query::range(
                "sum by (instance, device) \
                 (rate(stable_trace_stall_seconds_count{%}[$__rate_interval]))",
                "{{instance}} {{device}}",
            )),
        Panel::bar_gauge(
            "Devices by stall time",
            "Mean number of waiting tasks in the time range.",
        )
        .unit("short")
        .no_value(NO_STALL)
        .query(Query::instant(
            "topk(10, sum by (instance, device) \
                 (increase(stable_trace_stall_seconds_sum{%}[$__range]))) / $__range_s",
            "{{instance}} {{device}}",
        )),
    ]
}

fn integrity() -> Vec<Panel> {
    vec![
        Panel::stacked_bars(
            "Integrity errors, by device and check",
            "Failed checks of guard, application and reference tags. A healthy system has none.",
        )
        .unit("short")
        .no_value(NO_INTEGRITY_ERROR)
        .query(Query::range(
            "sum by (instance, device, check) \
             (increase(stable_trace_integrity_errors_total{%}[$__rate_interval])) > 0",
            "{{instance}} {{device}} {{check}}",
        )),
        Panel::stacked_bars(
            "Verdicts, by cause",
            "The agent's verdict on each error. no_rewrite_seen points to path or medium.",
        )
        .unit("short")
        .no_value(NO_INTEGRITY_ERROR)
        .query(Query::range(
            "sum by (cause) (increase(stable_trace_verdicts_total{%}[$__rate_interval])) > 0",
            "{{cause}}",
        )),
    ]
}

fn devices() -> Vec<Panel> {
    vec![
        Panel::table(
            "Devices",
            "Devices that require stable pages, and devices that check protection information. \
             Rewrites under writeback fail on a device that checks without requiring stable pages.",
            &["Value #format", "__name__"],
            &[
                ("instance", "Instance"),
                ("device", "Device"),
                ("format", "Integrity format"),
                ("Value #stable", "Stable pages"),
            ],
        )
        .unit("short")
        .no_value("unknown")
        .override_fields(
            "Stable pages",
            &[("mappings", value_mappings(&[("0", "no", "text"), ("1", "yes", "green")]))],
        )
        .query(
            Query::table("max by (instance, device) (stable_trace_device_stable_writes{%})")
                .ref_id("stable"),
        )
        .query(
            Query::table(
                "max by (instance, device, format) (stable_trace_device_integrity_info{%})",
            )
            .ref_id("format"),
        ),
        Panel::table(
            "Groups without a probe",
            "Probe groups that these agents do not trace at all. The agent dashboard lists every \
             probe.",
            &["__name__", "Value"],
            &[("instance", "Instance"), ("group", "Group")],
        )
        .unit("short")
        .no_value("every group has a probe")
        .query(Query::table("max by (instance, group) (stable_trace_probe_attached{%}) == 0")),
    ]
}
