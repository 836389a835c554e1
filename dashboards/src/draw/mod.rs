//! Pictures of dashboards, drawn from real data where there is no Grafana: every panel in its place,
//! from its own expressions. They show what a panel says, not each detail of how Grafana says it.

mod chart;
mod svg;
mod unit;

use serde_json::Value;

use crate::asked::{Times, filled_in, list};
use crate::prometheus::{Prometheus, PrometheusError, Series};
use svg::Svg;

/// The time that a picture shows.
#[derive(Clone, Copy, Debug)]
pub struct Shown {
    /// Its beginning, in seconds since 1970.
    pub start: f64,
    /// Its end.
    pub end: f64,
    /// What `$__rate_interval` becomes, in seconds.
    pub rate_interval: u64,
}

/// Pixels of a grid unit, and between panels.
const COLUMN: f64 = 50.0;
const ROW: f64 = 34.0;
const GAP: f64 = 6.0;

/// Draws a dashboard as SVG.
///
/// # Errors
/// If Prometheus does not answer or refuses an expression.
pub fn board(board: &Value, server: &Prometheus, shown: Shown) -> Result<String, PrometheusError> {
    let mut svg = Svg::default();
    let mut bottom = 0.0_f64;
    // Repeated panels take more room than the file gives them.
    let mut more = 0.0;
    for panel in list(&board["panels"]) {
        let place = |key: &str| panel["gridPos"][key].as_f64().unwrap_or_default();
        let (left, top) = (place("x") * COLUMN, (place("y") + more) * ROW + 40.0);
        let (width, height) = (place("w") * COLUMN - GAP, place("h") * ROW - GAP);
        if panel["type"] == "row" {
            svg.text(
                left + 6.0,
                top + 20.0,
                14.0,
                svg::TEXT,
                &format!("⌄ {}", text(&panel["title"])),
            );
            continue;
        }
        let copies = copies(panel, server)?;
        for (copy, value) in copies.iter().zip(0_u8..) {
            let (across, down) = (f64::from(value % 2), f64::from(value / 2));
            let at = (left + across * 12.0 * COLUMN, top + down * place("h") * ROW);
            svg.begin(at, (width, height), text(&copy["title"]));
            chart::panel(&mut svg, copy, &answers(copy, server, shown)?, shown, (width, height));
            svg.end();
            bottom = bottom.max(at.1 + height);
        }
        let rows = copies.len().div_ceil(2).saturating_sub(1);
        more += place("h") * f64::from(u8::try_from(rows).unwrap_or_default());
    }
    let title = text(&board["title"]);
    svg.text(8.0, 26.0, 18.0, svg::TEXT, title);
    Ok(svg.document(24.0 * COLUMN, bottom + 8.0))
}

/// What one target of a panel came to.
struct Answer {
    /// As the panel names each series.
    names: Vec<String>,
    series: Vec<Series>,
    /// The letter of the question.
    letter: String,
}

fn answers(
    panel: &Value,
    server: &Prometheus,
    shown: Shown,
) -> Result<Vec<Answer>, PrometheusError> {
    // Some seconds, far from what a float or this integer cannot hold.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "see above")]
    let range = (shown.end - shown.start).max(1.0) as u64;
    let times = Times { rate_interval: shown.rate_interval, range };
    let over_time = ["timeseries", "heatmap", "state-timeline"].iter().any(|k| panel["type"] == *k);
    let mut answers = Vec::new();
    for target in list(&panel["targets"]) {
        let expression = filled_in(text(&target["expr"]), times);
        let step = ((shown.end - shown.start) / 120.0).max(1.0);
        let series = if over_time {
            server.range(&expression, shown.start, shown.end, step)?
        } else {
            // At the very end of what is shown.
            server.range(&expression, shown.end, shown.end, 1.0)?
        };
        let names = series.iter().map(|one| name(text(&target["legendFormat"]), one)).collect();
        answers.push(Answer { names, series, letter: text(&target["refId"]).to_owned() });
    }
    Ok(answers)
}

/// One panel for each value of the variable that it repeats; itself otherwise.
fn copies(panel: &Value, server: &Prometheus) -> Result<Vec<Value>, PrometheusError> {
    let Some(variable) = panel["repeat"].as_str() else { return Ok(vec![panel.clone()]) };
    let values =
        server.query(&format!("group by ({variable}) (stable_trace_stall_seconds_count > 0)"))?;
    let mut values: Vec<_> = values.iter().map(|one| one.label(variable).to_owned()).collect();
    values.sort();
    let copy = |value: &String| {
        let mut copy = panel.clone();
        copy["title"] = value.clone().into();
        for target in copy["targets"].as_array_mut().into_iter().flatten() {
            let one = text(&target["expr"]).replace(&format!("${variable}"), value);
            target["expr"] = one.into();
        }
        copy
    };
    Ok(values.iter().map(copy).collect())
}

/// Fills a legend such as `{{device}} {{fs}}`.
fn name(legend: &str, series: &Series) -> String {
    let mut pieces = legend.split("{{");
    let mut name = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (label, rest) = piece.split_once("}}").unwrap_or((piece, ""));
        name += series.label(label);
        name += rest;
    }
    name
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legends_are_filled() {
        let series = Series { labels: vec![("a".into(), "x".into())], points: Vec::new() };
        assert_eq!(name("{{a}} of {{b}}!", &series), "x of !");
        assert_eq!(name("plain", &series), "plain");
    }
}
