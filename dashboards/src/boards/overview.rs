//! Is anything stalling, where, how bad; and does the data arrive as it was written?

use crate::board::Board;
use crate::panel::Panel;
use crate::query::Query;

use super::{NONE, STABLE};

pub(super) fn board() -> Board {
    Board::new(
        "overview",
        "Overview",
        "Is anything stalling, where, and how badly; integrity errors and what caused them.",
    )
    .section("Now", now())
    .section("Stalls", stalls())
    .section("Integrity", integrity())
    .section("Devices", devices())
}

fn now() -> Vec<Panel> {
    vec![
        Panel::number("Agents", "How many agents answer Prometheus.")
            .unit("none")
            .without_data(NONE)
            .plain()
            .ask(Query::new("count(stable_trace_build_info{%})", "agents")),
        Panel::number("Stalls", "Waits for a page's writeback to end, of every context, a second.")
            .unit("cps")
            .without_data(NONE)
            .ask(Query::new(
                "sum(rate(stable_trace_stall_seconds_count{%}[$__rate_interval]))",
                "stalls",
            )),
        Panel::number(
            "Tasks waiting",
            "Seconds waited a second: so many tasks waited for writeback at any moment, on average.",
        )
        .unit("short")
        .without_data(NONE)
        .steps(&[(1.0, "yellow"), (10.0, "red")])
        .ask(Query::new(
            "sum(rate(stable_trace_stall_seconds_sum{%}[$__rate_interval]))",
            "tasks",
        )),
        Panel::number(
            "p99 of stable-page stalls",
            "99 of 100 waits that stable pages caused are shorter than this. Buckets are powers \
             of two: it is exact to a factor of two.",
        )
        .unit("s")
        .without_data("no stall")
        .steps(&[(0.1, "yellow"), (1.0, "red")])
        .ask(Query::new(&stable_quantile("0.99"), "p99")),
        Panel::number(
            "Integrity errors",
            "Failed checks of protection information in the time shown.",
        )
        .unit("short")
        .decimals(0)
        .without_data(NONE)
        .steps(&[(0.5, "red")])
        .plain()
        .ask(Query::now("sum(increase(stable_trace_integrity_errors_total{%}[$__range]))", "errors")),
        Panel::number(
            "Unstable writes",
            "Pages that a writer got while they were under writeback, in the time shown: where \
             the mapping requires stable pages (violation), or where only a device below checks \
             (hole). Harmless ones do not count.",
        )
        .unit("short")
        .decimals(0)
        .without_data(NONE)
        .steps(&[(0.5, "red")])
        .plain()
        .ask(Query::now(
            r#"sum(increase(stable_trace_unstable_writes_total{%, grade=~"violation|hole"}[$__range]))"#,
            "unstable writes",
        )),
    ]
}

fn stable_quantile(quantile: &str) -> String {
    format!(
        "histogram_quantile({quantile}, sum by (le) \
         (rate(stable_trace_stall_seconds_bucket{{%, {STABLE}}}[$__rate_interval])))"
    )
}

fn stalls() -> Vec<Panel> {
    vec![
        Panel::areas(
            "Tasks waiting, by context",
            "How many tasks waited at any moment, and why. write_begin and page_mkwrite are stable \
             pages; sync is somebody who asked for the data to be on the medium.",
        )
        .unit("short")
        .ask(Query::new(
            "sum by (context) (rate(stable_trace_stall_seconds_sum{%}[$__rate_interval]))",
            "{{context}}",
        )),
        Panel::lines(
            "Stable-page stalls, percentiles",
            "Waits that stable pages caused. All lines up: the disk is slow. Only p99 up: few \
             pages wait, see who writes them in the stalls dashboard.",
        )
        .unit("s")
        .logarithmic()
        .ask(Query::new(&stable_quantile("0.5"), "p50"))
        .ask(Query::new(&stable_quantile("0.9"), "p90"))
        .ask(Query::new(&stable_quantile("0.99"), "p99")),
        Panel::lines("Stalls, by device", "Waits a second, of every context.").unit("cps").ask(
            Query::new(
                "sum by (instance, device) \
                 (rate(stable_trace_stall_seconds_count{%}[$__rate_interval]))",
                "{{instance}} {{device}}",
            ),
        ),
        Panel::ranking(
            "Devices that are waited for most",
            "Average number of waiting tasks over the time shown.",
        )
        .unit("short")
        .without_data("no stall")
        .ask(Query::now(
            "topk(10, sum by (instance, device) \
             (increase(stable_trace_stall_seconds_sum{%}[$__range]))) / $__range_s",
            "{{instance}} {{device}}",
        )),
    ]
}

fn integrity() -> Vec<Panel> {
    vec![
        Panel::bars(
            "Integrity errors, by device and check",
            "Failed checks of guard, application and reference tags. None is the only good number.",
        )
        .unit("short")
        .without_data("no integrity error")
        .ask(Query::new(
            "sum by (instance, device, check) \
             (increase(stable_trace_integrity_errors_total{%}[$__rate_interval])) > 0",
            "{{instance}} {{device}} {{check}}",
        )),
        Panel::bars(
            "Verdicts, by cause",
            "What the agent says caused each error. no_rewrite_seen leaves path or medium.",
        )
        .unit("short")
        .without_data("no integrity error")
        .ask(Query::new(
            "sum by (cause) (increase(stable_trace_verdicts_total{%}[$__rate_interval])) > 0",
            "{{cause}}",
        )),
    ]
}

fn devices() -> Vec<Panel> {
    vec![
        Panel::table(
            "Devices",
            "Which devices ask for stable pages, and which check protection information. One that \
             checks and does not ask will see errors.",
            &["Value #format", "__name__"],
            &[
                ("instance", "Instance"),
                ("device", "Device"),
                ("format", "Integrity format"),
                ("Value #stable", "Stable pages"),
            ],
        )
        .unit("short")
        .without_data("unknown")
        .except("Stable pages", &[("mappings", yes_and_no())])
        .ask(
            Query::rows("max by (instance, device) (stable_trace_device_stable_writes{%})")
                .named("stable"),
        )
        .ask(
            Query::rows(
                "max by (instance, device, format) (stable_trace_device_integrity_info{%})",
            )
            .named("format"),
        ),
        Panel::table(
            "Groups without a probe",
            "What these agents cannot see at all. The agent dashboard has the probes one by one.",
            &["__name__", "Value"],
            &[("instance", "Instance"), ("group", "Group")],
        )
        .unit("short")
        .without_data("every group has a probe")
        .ask(Query::rows("max by (instance, group) (stable_trace_probe_attached{%}) == 0")),
    ]
}

fn yes_and_no() -> serde_json::Value {
    serde_json::json!([{
        "type": "value",
        "options": {
            "0": {"color": "text", "index": 0, "text": "no"},
            "1": {"color": "green", "index": 1, "text": "yes"},
        },
    }])
}
