//! Draws dashboards as SVG from the data of a Prometheus server, without Grafana.
//!
//! A picture has every panel at its position, with the values of its queries. It does not reproduce
//! every detail of Grafana's rendering.

mod axes;
mod canvas;
mod heatmap;
mod panel;
mod state_timeline;
mod svg;
mod table;
mod time_series;
mod unit;

use serde_json::Value;

use crate::expressions::{Durations, interpolated};
use crate::json::{elements, text};
use crate::prometheus::{Prometheus, PrometheusError, Series};
use canvas::{Anchor, Canvas, TEXT_COLOR};
use panel::PanelData;

/// The time range of a picture.
#[derive(Clone, Copy, Debug)]
pub struct TimeRange {
    /// Seconds since 1970.
    pub start: f64,
    /// Seconds since 1970.
    pub end: f64,
    /// The value of `$__rate_interval`, in seconds.
    pub rate_interval: u64,
}

impl TimeRange {
    /// Seconds between two points of a series.
    fn step(self) -> f64 {
        ((self.end - self.start) / 120.0).max(1.0)
    }
}

/// The width and height of a grid unit, in pixels.
const COLUMN: f64 = 50.0;
const ROW: f64 = 34.0;
/// The distance between panels, in pixels.
const GAP: f64 = 6.0;

/// Draws a dashboard.
///
/// # Errors
/// If a query fails.
pub fn dashboard(
    dashboard: &Value,
    server: &Prometheus,
    time_range: TimeRange,
) -> Result<String, PrometheusError> {
    let mut canvas = Canvas::default();
    let mut bottom = 0.0_f64;
    // The grid positions in the JSON have room for one instance of a repeated panel.
    let mut repeated_height = 0.0;
    for panel in elements(&dashboard["panels"]) {
        let grid = |key: &str| panel["gridPos"][key].as_f64().unwrap_or_default();
        let (left, top) = (grid("x") * COLUMN, (grid("y") + repeated_height) * ROW + 40.0);
        let size = (grid("w") * COLUMN - GAP, grid("h") * ROW - GAP);
        if panel["type"] == "row" {
            let title = format!("⌄ {}", text(&panel["title"]));
            canvas.text((left + 6.0, top + 20.0), 14.0, TEXT_COLOR, Anchor::Start, &title);
            continue;
        }
        let instances = repeated(panel, server)?;
        for (instance, index) in instances.iter().zip(0_u8..) {
            let (column, row) = (f64::from(index % 2), f64::from(index / 2));
            let position = (left + column * 12.0 * COLUMN, top + row * grid("h") * ROW);
            canvas.begin_panel(position, size, text(&instance["title"]));
            let (width, height) = size;
            let results = query_results(instance, server, time_range)?;
            let data = PanelData { json: instance, results, time_range, width, height };
            panel::draw(&mut canvas, &data);
            canvas.end_panel();
            bottom = bottom.max(position.1 + size.1);
        }
        let additional_rows = instances.len().div_ceil(2).saturating_sub(1);
        repeated_height += grid("h") * panel::count(additional_rows);
    }
    let title = text(&dashboard["title"]);
    canvas.text((8.0, 26.0), 18.0, TEXT_COLOR, Anchor::Start, title);
    Ok(canvas.into_document((24.0 * COLUMN, bottom + 8.0)))
}

/// The result of one target of a panel.
struct QueryResult {
    /// The name of each series in the legend.
    names: Vec<String>,
    series: Vec<Series>,
    ref_id: String,
}

fn query_results(
    panel: &Value,
    server: &Prometheus,
    time_range: TimeRange,
) -> Result<Vec<QueryResult>, PrometheusError> {
    let TimeRange { start, end, rate_interval } = time_range;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the length of a time range is a small positive number"
    )]
    let range = (end - start).max(1.0) as u64;
    let has_time_axis = ["timeseries", "heatmap", "state-timeline"].contains(&text(&panel["type"]));
    let query = |target: &Value| {
        let expression = interpolated(text(&target["expr"]), Durations { rate_interval, range });
        let series = if has_time_axis {
            server.query_range(&expression, start, end, time_range.step())?
        } else {
            server.query_range(&expression, end, end, 1.0)?
        };
        let legend = text(&target["legendFormat"]);
        let names = series.iter().map(|series| legend_name(legend, series)).collect();
        Ok(QueryResult { names, series, ref_id: text(&target["refId"]).to_owned() })
    };
    elements(&panel["targets"]).iter().map(query).collect()
}

/// The instances of a repeated panel, one for each value of its variable; otherwise the panel.
fn repeated(panel: &Value, server: &Prometheus) -> Result<Vec<Value>, PrometheusError> {
    let Some(variable) = panel["repeat"].as_str() else { return Ok(vec![panel.clone()]) };
    let series =
        server.query(&format!("group by ({variable}) (stable_trace_stall_seconds_count > 0)"))?;
    let mut values: Vec<_> = series.iter().map(|series| series.label(variable)).collect();
    values.sort_unstable();
    let instance = |value: &&str| {
        let mut instance = panel.clone();
        instance["title"] = (*value).into();
        for target in instance["targets"].as_array_mut().into_iter().flatten() {
            let expression = text(&target["expr"]).replace(&format!("${variable}"), value);
            target["expr"] = expression.into();
        }
        instance
    };
    Ok(values.iter().map(instance).collect())
}

/// Substitutes the labels in a legend such as `{{device}} {{fs}}`.
fn legend_name(legend: &str, series: &Series) -> String {
    let mut parts = legend.split("{{");
    let mut name = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (label, rest) = part.split_once("}}").unwrap_or((part, ""));
        name += series.label(label);
        name += rest;
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_substituted_in_legends() {
        let series = Series { labels: vec![("a".into(), "x".into())], points: Vec::new() };
        assert_eq!(legend_name("{{a}} of {{b}}!", &series), "x of !");
        assert_eq!(legend_name("plain", &series), "plain");
    }
}
