//! What failed a check, what caused it, and what stalled around it.

use serde_json::json;

use crate::board::Board;
use crate::panel::Panel;
use crate::query::Query;

use super::{NONE, STABLE};

pub(super) fn board() -> Board {
    Board::new(
        "integrity",
        "Integrity",
        "Failed integrity checks, what caused them, and the stalls around them.",
    )
    .variable("device", "Device", "stable_trace_device_stable_writes")
    .section("In the time shown", numbers())
    .section("Errors", errors())
    .section("Causes", causes())
    .section("Pages that changed under writeback", unstable())
    .section("Stalls around errors", stalls())
}

fn numbers() -> Vec<Panel> {
    let red = [(0.5, "red")];
    let total = |title: &str, description: &str, expression: &str| {
        Panel::number(title, description)
            .unit("short")
            .decimals(0)
            .without_data(NONE)
            .steps(&red)
            .plain()
            .ask(Query::now(&format!("sum(increase({expression}[$__range]))"), "in the time shown"))
    };
    vec![
        total(
            "Failed reads",
            "Reads whose protection information did not match.",
            r#"stable_trace_integrity_errors_total{%, device=~"$device", op="read"}"#,
        ),
        total(
            "Failed writes",
            "Writes that the device or the driver refused.",
            r#"stable_trace_integrity_errors_total{%, device=~"$device", op="write"}"#,
        ),
        total(
            "Violations",
            "Pages given to a writer under writeback, though their mapping requires stable pages: \
             a defect of the file system.",
            r#"stable_trace_unstable_writes_total{%, device=~"$device", grade="violation"}"#,
        ),
        total(
            "Holes",
            "Pages given to a writer under writeback, where nothing asks for stable pages but a \
             device below checks: a defect of the stack's set-up.",
            r#"stable_trace_unstable_writes_total{%, device=~"$device", grade="hole"}"#,
        ),
        total(
            "Rewritten in flight",
            "Errors that a page rewritten in flight explains.",
            r#"stable_trace_verdicts_total{%, device=~"$device", cause=~"page_rewritten_in_flight|direct_io_buffer"}"#,
        ),
        total(
            "Path or medium",
            "Errors for which no rewrite was seen: cable, adapter, controller or medium.",
            r#"stable_trace_verdicts_total{%, device=~"$device", cause="no_rewrite_seen"}"#,
        ),
    ]
}

const ERRORS: &str = r#"stable_trace_integrity_errors_total{%, device=~"$device"}"#;

fn errors() -> Vec<Panel> {
    vec![
        Panel::bars(
            "By device, check and operation",
            "guard: the data changed. reference_tag: the block came from, or went to, another \
             place. application_tag: somebody else wrote it.",
        )
        .unit("short")
        .without_data("no integrity error")
        .ask(Query::new(
            &format!(
                "sum by (instance, device, check, op) (increase({ERRORS}[$__rate_interval])) > 0"
            ),
            "{{instance}} {{device}} {{check}} {{op}}",
        )),
        Panel::table(
            "Since the agents started",
            "Every kind of error that there was, as counted: this one shows errors that were there before \
             Prometheus first looked, too.",
            &["__name__"],
            &[
                ("instance", "Instance"),
                ("device", "Device"),
                ("op", "Operation"),
                ("check", "Check"),
                ("source", "Seen by"),
                ("Value", "Errors"),
            ],
        )
        .unit("short")
        .decimals(0)
        .without_data("no integrity error")
        .except("Errors", &[("custom.width", json!(100))])
        .ask(Query::rows(&format!(
            "sum by (instance, device, op, check, source) ({ERRORS}) > 0"
        ))),
    ]
}

fn causes() -> Vec<Panel> {
    let verdicts = r#"stable_trace_verdicts_total{%, device=~"$device"}"#;
    vec![
        Panel::bars(
            "Verdicts, by cause",
            "page_rewritten_in_flight: a file system did not hold the page stable. \
             direct_io_buffer: an application rewrote its buffer. no_rewrite_seen: path or medium. \
             unknown: not enough was seen.",
        )
        .unit("short")
        .without_data("no integrity error")
        .ask(Query::new(
            &format!("sum by (cause) (increase({verdicts}[$__rate_interval])) > 0"),
            "{{cause}}",
        )),
        Panel::ranking("Causes, by device", "Verdicts in the time shown.")
            .unit("short")
            .decimals(0)
            .without_data("no integrity error")
            .ask(Query::now(
                &format!(
                    "sort_desc(sum by (instance, device, cause) (increase({verdicts}[$__range])) > 0)"
                ),
                "{{instance}} {{device}} {{cause}}",
            )),
    ]
}

fn unstable() -> Vec<Panel> {
    let writes = r#"stable_trace_unstable_writes_total{%, device=~"$device"}"#;
    vec![
        Panel::bars(
            "By grade and context",
            "Pages that a writer got while they were under writeback. Harmless ones are shown, \
             because they stop being harmless on a device that checks.",
        )
        .unit("short")
        .without_data("none")
        .ask(Query::new(
            &format!("sum by (grade, context) (increase({writes}[$__rate_interval])) > 0"),
            "{{grade}} {{context}}",
        )),
        Panel::states(
            "Devices that ask for stable pages",
            "A device whose band changes was told so while it was in use.",
        )
        .unit("short")
        .words(&[("0", "no", "orange"), ("1", "yes", "green")])
        .ask(Query::new(
            r#"max by (instance, device) (stable_trace_device_stable_writes{%, device=~"$device"})"#,
            "{{instance}} {{device}}",
        )),
    ]
}

fn stalls() -> Vec<Panel> {
    let on_failing = format!(
        "and on (instance, device) (sum by (instance, device) (increase({ERRORS}[$__range])) > 0)"
    );
    vec![
        Panel::lines(
            "Errors and waiting tasks",
            "Bars: errors. Lines: tasks that waited for the same devices. Errors during a storm \
             of stalls speak for rewrites in flight; errors in quiet speak for path or medium.",
        )
        .unit("short")
        .without_data("no integrity error")
        .except(
            "^errors",
            &[
                ("custom.drawStyle", json!("bars")),
                ("custom.fillOpacity", json!(60)),
                ("custom.axisPlacement", json!("right")),
                ("color", json!({"fixedColor": "red", "mode": "fixed"})),
            ],
        )
        .ask(Query::new(
            &format!(
                "sum by (instance, device) (rate(stable_trace_stall_seconds_sum{{%, \
                 device=~\"$device\"}}[$__rate_interval])) {on_failing}"
            ),
            "tasks waiting, {{instance}} {{device}}",
        ))
        .ask(Query::new(
            &format!(
                "sum by (instance, device) (increase({ERRORS}[$__rate_interval])) {on_failing}"
            ),
            "errors, {{instance}} {{device}}",
        )),
        Panel::lines(
            "p99 of stable-page stalls on devices with errors",
            "A path that retries is slow before it fails: a p99 that rises ahead of the errors \
             points at path or medium.",
        )
        .unit("s")
        .logarithmic()
        .without_data("no integrity error")
        .ask(Query::new(
            &format!(
                "histogram_quantile(0.99, sum by (le, instance, device) \
                 (rate(stable_trace_stall_seconds_bucket{{%, device=~\"$device\", \
                 {STABLE}}}[$__rate_interval]))) {on_failing}"
            ),
            "{{instance}} {{device}}",
        )),
    ]
}
