//! Failed integrity checks, their causes, and stalls on the same devices.

use serde_json::json;

use crate::dashboard::Dashboard;
use crate::panel::Panel;
use crate::query::Query;

use super::{NO_INTEGRITY_ERROR, RED_FROM_ONE, STABLE_PAGES, quantile, total};

const ERRORS: &str = r#"stable_trace_integrity_errors_total{%, device=~"$device"}"#;
const VERDICTS: &str = r#"stable_trace_verdicts_total{%, device=~"$device"}"#;
const PROOFS: &str = r#"stable_trace_verdict_proofs_total{%, device=~"$device"}"#;
const UNSTABLE_WRITES: &str = r#"stable_trace_unstable_writes_total{%, device=~"$device"}"#;

pub(super) fn dashboard() -> Dashboard {
    Dashboard::new(
        "integrity",
        "Integrity",
        "Failed integrity checks, their causes, and stalls on the same devices.",
    )
    .variable("device", "Device", "stable_trace_device_stable_writes")
    .row("Totals", totals())
    .row("Errors", errors())
    .row("Causes", causes())
    .row("Unstable writes", unstable_writes())
    .row("Stalls around errors", stalls())
}

fn totals() -> Vec<Panel> {
    let total = |title: &str, description: &str, selector: &str| {
        total(title, description, selector, "total").thresholds(&RED_FROM_ONE)
    };
    vec![
        total(
            "Failed reads",
            "Reads whose protection information did not match the data.",
            r#"stable_trace_integrity_errors_total{%, device=~"$device", op="read"}"#,
        ),
        total(
            "Failed writes",
            "Writes that the driver or the device rejected.",
            r#"stable_trace_integrity_errors_total{%, device=~"$device", op="write"}"#,
        ),
        total(
            "Violations",
            "Pages given to a writer under writeback although their mapping requires stable \
             pages: a defect of the file system.",
            r#"stable_trace_unstable_writes_total{%, device=~"$device", grade="violation"}"#,
        ),
        total(
            "Holes",
            "Pages given to a writer under writeback without a requirement for stable pages, \
             although a device below checks integrity: a defect in the configuration of the \
             block stack.",
            r#"stable_trace_unstable_writes_total{%, device=~"$device", grade="hole"}"#,
        ),
        total(
            "Rewritten in flight",
            "Errors caused by a page or a direct-I/O buffer that was rewritten in flight.",
            r#"stable_trace_verdicts_total{%, device=~"$device", cause=~"page_rewritten_in_flight|direct_io_buffer"}"#,
        ),
        total(
            "Path or medium",
            "Errors without an observed rewrite. Suspect cable, adapter, controller or medium.",
            r#"stable_trace_verdicts_total{%, device=~"$device", cause="no_rewrite_seen"}"#,
        ),
    ]
}

fn errors() -> Vec<Panel> {
    vec![
        Panel::stacked_bars(
            "By device, check and operation",
            "guard: the data changed. reference_tag: the block was written to or read from \
             another address. application_tag: another application wrote the block.",
        )
        .unit("short")
        .no_value(NO_INTEGRITY_ERROR)
        .query(Query::range(
            &format!(
                "sum by (instance, device, check, op) (increase({ERRORS}[$__rate_interval])) > 0"
            ),
            "{{instance}} {{device}} {{check}} {{op}}",
        )),
        Panel::table(
            "Since the agents started",
            "Errors counted since each agent started, including errors before the first scrape.",
            &["__name__"],
            &[
                ("instance", "Instance"),
                ("device", "Device"),
                ("op", "Operation"),
                ("check", "Check"),
                ("source", "Reported by"),
                ("Value", "Errors"),
            ],
        )
        .unit("short")
        .decimals(0)
        .no_value(NO_INTEGRITY_ERROR)
        .override_fields("Errors", &[("custom.width", json!(100))])
        .query(Query::table(&format!(
            "sum by (instance, device, op, check, source) ({ERRORS}) > 0"
        ))),
    ]
}

fn causes() -> Vec<Panel> {
    vec![
        Panel::stacked_bars(
            "Verdicts, by cause",
            "page_rewritten_in_flight: the file system did not keep the page stable. \
             direct_io_buffer: an application rewrote its buffer. no_rewrite_seen: path or medium. \
             unknown: not enough evidence.",
        )
        .unit("short")
        .no_value(NO_INTEGRITY_ERROR)
        .query(Query::range(
            &format!("sum by (cause) (increase({VERDICTS}[$__rate_interval])) > 0"),
            "{{cause}}",
        )),
        Panel::bar_gauge("Causes, by device", "Verdicts in the time range.")
            .unit("short")
            .decimals(0)
            .no_value(NO_INTEGRITY_ERROR)
            .query(Query::instant(
                &format!(
                    "sort_desc(sum by (instance, device, cause) (increase({VERDICTS}[$__range])) > 0)"
                ),
                "{{instance}} {{device}} {{cause}}",
            )),
        Panel::stacked_bars(
            "Proofs, by kind",
            "What the data and the protection information of errors prove. memory_changed, \
             memory_changing: the memory was rewritten on its way. memory_intact: path or medium. \
             bit_flip, foreign_data: what was read is not what was signed. none: nothing proved.",
        )
        .unit("short")
        .no_value(NO_INTEGRITY_ERROR)
        .query(Query::range(
            &format!("sum by (kind) (increase({PROOFS}[$__rate_interval])) > 0"),
            "{{kind}}",
        )),
    ]
}

fn unstable_writes() -> Vec<Panel> {
    vec![
        Panel::stacked_bars(
            "By grade and context",
            "Pages given to a writer under writeback. Harmless unstable writes are included: on a \
             device that checks integrity they become errors.",
        )
        .unit("short")
        .no_value("none")
        .query(Query::range(
            &format!("sum by (grade, context) (increase({UNSTABLE_WRITES}[$__rate_interval])) > 0"),
            "{{grade}} {{context}}",
        )),
        Panel::state_timeline(
            "Devices requiring stable pages",
            "A change of colour is a change of the setting while the device was in use.",
        )
        .unit("short")
        .value_mappings(&[("0", "no", "orange"), ("1", "yes", "green")])
        .query(Query::range(
            r#"max by (instance, device) (stable_trace_device_stable_writes{%, device=~"$device"})"#,
            "{{instance}} {{device}}",
        )),
    ]
}

fn stalls() -> Vec<Panel> {
    let on_devices_with_errors = format!(
        "and on (instance, device) (sum by (instance, device) (increase({ERRORS}[$__range])) > 0)"
    );
    let stable_page_buckets =
        format!("stable_trace_stall_seconds_bucket{{%, device=~\"$device\", {STABLE_PAGES}}}");
    vec![
        Panel::time_series(
            "Errors and waiting tasks",
            "Bars: errors. Lines: tasks waiting for the same devices. Errors while many tasks \
             wait point to rewrites in flight. Errors without waiting tasks point to path or \
             medium.",
        )
        .unit("short")
        .no_value(NO_INTEGRITY_ERROR)
        .override_fields(
            "^errors",
            &[
                ("custom.drawStyle", json!("bars")),
                ("custom.fillOpacity", json!(60)),
                ("custom.axisPlacement", json!("right")),
                ("color", json!({"fixedColor": "red", "mode": "fixed"})),
            ],
        )
        .query(Query::range(
            &format!(
                "sum by (instance, device) (rate(stable_trace_stall_seconds_sum{{%, \
                 device=~\"$device\"}}[$__rate_interval])) {on_devices_with_errors}"
            ),
            "tasks waiting, {{instance}} {{device}}",
        ))
        .query(Query::range(
            &format!(
                "sum by (instance, device) (increase({ERRORS}[$__rate_interval])) \
                 {on_devices_with_errors}"
            ),
            "errors, {{instance}} {{device}}",
        )),
        Panel::time_series(
            "p99 of stable-page stalls on devices with errors",
            "A p99 that rises before the errors points to path or medium: retries slow I/O down \
             before it fails.",
        )
        .unit("s")
        .log_scale()
        .no_value(NO_INTEGRITY_ERROR)
        .query(Query::range(
            &format!(
                "{} {on_devices_with_errors}",
                quantile("0.99", "le, instance, device", &stable_page_buckets)
            ),
            "{{instance}} {{device}}",
        )),
    ]
}
