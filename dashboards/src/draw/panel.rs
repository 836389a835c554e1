//! Draws the content of a panel by its type, and the types without a time axis.

use serde_json::Value;

use super::canvas::{Anchor, Canvas, GREEN, ORANGE, Pixels, SECONDARY_TEXT_COLOR, TEXT_COLOR};
use super::unit::format_value;
use super::{QueryResult, TimeRange, heatmap, state_timeline, table, time_series};
use crate::json::{elements, text};
use crate::prometheus::Series;

pub(super) fn draw(
    canvas: &mut Canvas,
    panel: &Value,
    results: &[QueryResult],
    time_range: TimeRange,
    size: Pixels,
) {
    let empty = results.iter().all(|result| result.series.is_empty());
    match text(&panel["type"]) {
        _ if empty => draw_no_value(canvas, panel, size),
        "stat" => draw_stat(canvas, panel, results, size),
        "heatmap" => heatmap::draw(canvas, panel, results, time_range, size),
        "bargauge" => draw_bar_gauge(canvas, panel, results, size),
        "table" => table::draw(canvas, panel, results, size),
        "state-timeline" => state_timeline::draw(canvas, panel, results, time_range, size),
        _ => time_series::draw(canvas, panel, results, time_range, size),
    }
}

/// The default field configuration of a panel.
pub(super) fn defaults(panel: &Value) -> &Value {
    &panel["fieldConfig"]["defaults"]
}

pub(super) fn unit(panel: &Value) -> &str {
    text(&defaults(panel)["unit"])
}

/// Every series of the results, with its name in the legend.
pub(super) fn named_series(results: &[QueryResult]) -> impl Iterator<Item = (&String, &Series)> {
    results.iter().flat_map(|result| result.names.iter().zip(&result.series))
}

/// A small number of things as a factor of lengths.
pub(super) fn count(things: usize) -> f64 {
    f64::from(u8::try_from(things).unwrap_or(u8::MAX))
}

/// A value in the panel's unit; a dash for NaN.
pub(super) fn format_in_panel(panel: &Value, value: f64) -> String {
    if value.is_nan() {
        return "–".to_owned();
    }
    let integer = defaults(panel)["decimals"] == 0 && value.abs() < 1e3;
    format_value(if integer { value.round() } else { value }, unit(panel))
}

/// The text of the panel's value mapping, or else the value in the panel's unit.
pub(super) fn format_mapped(panel: &Value, value: f64) -> String {
    let key = format!("{value}");
    let mapped = elements(&panel["fieldConfig"]["overrides"])
        .iter()
        .flat_map(|field_override| elements(&field_override["properties"]))
        .filter(|property| property["id"] == "mappings")
        .map(|property| &property["value"])
        .chain([&defaults(panel)["mappings"]])
        .flat_map(elements)
        .find_map(|mapping| mapping["options"][&key]["text"].as_str());
    mapped.map_or_else(|| format_value(value, unit(panel)), str::to_owned)
}

fn no_value_text(panel: &Value) -> &str {
    defaults(panel)["noValue"].as_str().unwrap_or("No data")
}

pub(super) fn draw_no_value(canvas: &mut Canvas, panel: &Value, (width, height): Pixels) {
    let (size, color) =
        if panel["type"] == "stat" { (28.0, GREEN) } else { (13.0, SECONDARY_TEXT_COLOR) };
    let center = (width / 2.0, height / 2.0 + 12.0);
    canvas.text(center, size, color, Anchor::Middle, no_value_text(panel));
}

fn draw_stat(canvas: &mut Canvas, panel: &Value, results: &[QueryResult], (width, height): Pixels) {
    let Some((name, series)) = named_series(results).next() else { return };
    let value = series.last_value();
    let text = if value.is_nan() {
        no_value_text(panel).to_owned()
    } else if panel["options"]["textMode"] == "name" {
        name.clone()
    } else {
        format_in_panel(panel, value)
    };
    let center = (width / 2.0, height / 2.0 + 18.0);
    canvas.text(center, 28.0, threshold_color(panel, value), Anchor::Middle, &text);
}

/// The colour of the last threshold that the value reaches.
fn threshold_color(panel: &Value, value: f64) -> &'static str {
    let steps = elements(&defaults(panel)["thresholds"]["steps"]);
    let reached = steps.iter().rfind(|step| step["value"].as_f64().is_none_or(|at| value >= at));
    match reached.map(|step| text(&step["color"])) {
        Some("red") => "#f2495c",
        Some("yellow") => "#f2cc0c",
        _ => GREEN,
    }
}

fn draw_bar_gauge(
    canvas: &mut Canvas,
    panel: &Value,
    results: &[QueryResult],
    (width, height): Pixels,
) {
    let mut bars: Vec<_> = named_series(results)
        .filter_map(|(name, series)| Some((name, series.points.last()?.1)))
        .filter(|(_, value)| value.is_finite())
        .collect();
    bars.sort_by(|a, b| b.1.total_cmp(&a.1));
    let highest = bars.first().map_or(1.0, |(_, value)| value.max(1e-12));
    let bar_height = ((height - 36.0) / count(bars.len())).clamp(12.0, 30.0);
    // A character at font size 11 is about 6 pixels wide.
    let longest_name = bars.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
    let names_width = (count(longest_name) * 6.0).min(width * 0.6) + 8.0;
    let mut y = 30.0;
    for (name, value) in bars {
        let baseline = y + bar_height * 0.6;
        canvas.text((names_width, baseline), 11.0, TEXT_COLOR, Anchor::End, name);
        let length = (width - names_width - 70.0) * value / highest;
        let size = (length.max(1.0), bar_height - 3.0);
        canvas.rectangle((names_width + 8.0, y + 1.0), size, ORANGE, 0.75);
        let value = format_in_panel(panel, value);
        canvas.text((width - 10.0, baseline), 11.0, TEXT_COLOR, Anchor::End, &value);
        y += bar_height;
    }
}
