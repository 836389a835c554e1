//! Who waits for what, how long, how often.

use crate::board::Board;
use crate::panel::Panel;
use crate::query::Query;

use super::{NONE, STABLE};

/// The series that the variables choose; a bracket is left open for more.
macro_rules! chosen {
    ($series:literal) => {
        concat!(
            "stable_trace_stall_seconds_",
            $series,
            r#"{%, context=~"$context", device=~"$device", fs=~"$fs"}"#
        )
    };
}

pub(super) fn board() -> Board {
    Board::new("stalls", "Stalls", "Waits for writeback: how long, how often, who, and on what.")
        .variable("context", "Context", "stable_trace_stall_seconds_count")
        .variable("device", "Device", "stable_trace_stall_seconds_count")
        .variable("fs", "File system", "stable_trace_stall_seconds_count")
        .mark(
            "Integrity errors",
            "sum by (device, op, check) \
             (increase(stable_trace_integrity_errors_total{%}[$__rate_interval])) > 0",
            "{{device}}: {{op}}, {{check}}",
        )
        .section("In one look", numbers())
        .section("How long", durations())
        .section("Where the time goes", time())
        .section("Who", tasks())
        .section("By context", vec![each("context", "$context", r#"context=~"$context""#)])
        .section("By device", vec![each("device", "$device", r#"device=~"$device""#)])
}

fn numbers() -> Vec<Panel> {
    let quantile = |quantile: &str| {
        let buckets = chosen!("bucket");
        format!("histogram_quantile({quantile}, sum by (le) (rate({buckets}[$__rate_interval])))")
    };
    vec![
        Panel::number("Stalls", "Waits a second.").unit("cps").without_data(NONE).ask(Query::new(
            concat!("sum(rate(", chosen!("count"), "[$__rate_interval]))"),
            "stalls",
        )),
        Panel::number("Tasks waiting", "Seconds waited a second.")
            .unit("short")
            .without_data(NONE)
            .ask(Query::new(concat!("sum(rate(", chosen!("sum"), "[$__rate_interval]))"), "tasks")),
        Panel::number("Median", "Half of the waits are shorter; exact to a factor of two.")
            .unit("s")
            .without_data("no stall")
            .ask(Query::new(&quantile("0.5"), "p50")),
        Panel::number("p99", "99 of 100 waits are shorter; exact to a factor of two.")
            .unit("s")
            .without_data("no stall")
            .ask(Query::new(&quantile("0.99"), "p99")),
        Panel::number("Longest", "The end of the highest bucket that a wait fell into.")
            .unit("s")
            .without_data("no stall")
            .ask(Query::new(&quantile("1"), "longest")),
        Panel::number(
            "Share of stable pages",
            "Of the time waited, what stable pages caused; the rest is sync and other.",
        )
        .unit("percentunit")
        .up_to(1.0)
        .without_data("no stall")
        .ask(Query::new(
            &format!(
                "sum(rate(stable_trace_stall_seconds_sum{{%, device=~\"$device\", fs=~\"$fs\", \
                 {STABLE}}}[$__rate_interval])) / \
                 (sum(rate(stable_trace_stall_seconds_sum{{%, device=~\"$device\", \
                 fs=~\"$fs\"}}[$__rate_interval])) > 0)"
            ),
            "stable pages",
        )),
    ]
}

fn durations() -> Vec<Panel> {
    let by = |label: &str, quantile: &str| {
        let buckets = chosen!("bucket");
        format!(
            "histogram_quantile({quantile}, \
             sum by (le, {label}) (rate({buckets}[$__rate_interval])))"
        )
    };
    let all = |quantile: &str| {
        let buckets = chosen!("bucket");
        format!("histogram_quantile({quantile}, sum by (le) (rate({buckets}[$__rate_interval])))")
    };
    vec![
        Panel::heat(
            "All that is chosen",
            "How many waits fell into each bucket. Two bands are two kinds of waits: look at them \
             by context and by device below.",
        )
        .unit("s")
        .without_data("no stall")
        .ask(Query::buckets(concat!(
            "sum by (le) (increase(",
            chosen!("bucket"),
            "[$__rate_interval]))"
        ))),
        Panel::lines("Percentiles", "Of all that is chosen; exact to a factor of two.")
            .unit("s")
            .logarithmic()
            .sized(12, 9)
            .ask(Query::new(&all("0.5"), "p50"))
            .ask(Query::new(&all("0.9"), "p90"))
            .ask(Query::new(&all("0.99"), "p99"))
            .ask(Query::new(&all("0.999"), "p99.9")),
        Panel::lines("p99, by context", "Which kind of wait is the long one.")
            .unit("s")
            .logarithmic()
            .ask(Query::new(&by("context", "0.99"), "{{context}}")),
        Panel::lines("p99, by device", "Which device is waited for long.")
            .unit("s")
            .logarithmic()
            .ask(Query::new(&by("instance, device", "0.99"), "{{instance}} {{device}}")),
    ]
}

fn time() -> Vec<Panel> {
    let seconds = |label: &str| {
        let series = chosen!("sum");
        format!("sum by ({label}) (rate({series}[$__rate_interval]))")
    };
    let stalls = |label: &str| {
        let series = chosen!("count");
        format!("sum by ({label}) (rate({series}[$__rate_interval]))")
    };
    vec![
        Panel::areas("Seconds waited a second, by context", "That is how many tasks wait.")
            .unit("short")
            .ask(Query::new(&seconds("context"), "{{context}}")),
        Panel::areas("Seconds waited a second, by device", "That is how many tasks wait for it.")
            .unit("short")
            .ask(Query::new(&seconds("instance, device, fs"), "{{instance}} {{device}} {{fs}}")),
        Panel::lines("Stalls, by context", "Waits a second.")
            .unit("cps")
            .ask(Query::new(&stalls("context"), "{{context}}")),
        Panel::lines("Stalls, by device", "Waits a second.")
            .unit("cps")
            .ask(Query::new(&stalls("instance, device, fs"), "{{instance}} {{device}} {{fs}}")),
    ]
}

fn tasks() -> Vec<Panel> {
    let processes = r#"stable_trace_process_stall_seconds_total{%, context=~"$context"}"#;
    vec![
        Panel::areas(
            "Seconds waited a second, by process",
            "The ten names that wait most. other is what has no series of its own. Device and file \
             system are not known here: the variables of that name do nothing.",
        )
        .unit("short")
        .ask(Query::new(
            &format!("topk(10, sum by (comm) (rate({processes}[$__rate_interval])))"),
            "{{comm}}",
        )),
        Panel::ranking("Processes that wait most", "Seconds waited in the time shown.")
            .unit("s")
            .without_data("no stall")
            .ask(Query::now(
                &format!("topk(15, sum by (comm, context) (increase({processes}[$__range])))"),
                "{{comm}} {{context}}",
            )),
    ]
}

/// A heat map for each value of a variable, which its title shows.
fn each(variable: &'static str, title: &str, matcher: &str) -> Panel {
    let other =
        if variable == "context" { r#"device=~"$device""# } else { r#"context=~"$context""# };
    let expression = format!(
        "sum by (le) (increase(stable_trace_stall_seconds_bucket{{%, {matcher}, {other}, \
         fs=~\"$fs\"}}[$__rate_interval]))"
    );
    Panel::heat(title, &format!("How many waits fell into each bucket, for one {variable}."))
        .unit("s")
        .without_data("no stall")
        .for_each(variable)
        .ask(Query::buckets(&expression))
}
