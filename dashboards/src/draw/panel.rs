//! Draws the content of a panel by its type, and the types without a time axis.

use serde_json::Value;

use super::canvas::{Anchor, Canvas, GREEN, ORANGE, SECONDARY_TEXT_COLOR, TEXT_COLOR};
use super::unit::format_value;
use super::{QueryResult, TimeRange, heatmap, state_timeline, table, time_series};
use crate::json::{elements, text};
use crate::prometheus::Series;

/// A panel of a dashboard, its data and its size.
pub(super) struct PanelData<'a> {
    pub(super) json: &'a Value,
    pub(super) results: Vec<QueryResult>,
    pub(super) time_range: TimeRange,
    pub(super) width: f64,
    pub(super) height: f64,
}

impl PanelData<'_> {
    /// The default field configuration.
    pub(super) fn defaults(&self) -> &Value {
        &self.json["fieldConfig"]["defaults"]
    }

    pub(super) fn unit(&self) -> &str {
        text(&self.defaults()["unit"])
    }

    /// Every series, with its name in the legend.
    pub(super) fn named_series(&self) -> impl Iterator<Item = (&String, &Series)> {
        self.results.iter().flat_map(|result| result.names.iter().zip(&result.series))
    }

    /// A value in the panel's unit; a dash for NaN.
    pub(super) fn format(&self, value: f64) -> String {
        if value.is_nan() {
            return "–".to_owned();
        }
        let integer = self.defaults()["decimals"] == 0 && value.abs() < 1e3;
        format_value(if integer { value.round() } else { value }, self.unit())
    }

    /// The text of the panel's value mapping, or else the value in the panel's unit.
    pub(super) fn format_mapped(&self, value: f64) -> String {
        let key = format!("{value}");
        let mapped = elements(&self.json["fieldConfig"]["overrides"])
            .iter()
            .flat_map(|field_override| elements(&field_override["properties"]))
            .filter(|property| property["id"] == "mappings")
            .map(|property| &property["value"])
            .chain([&self.defaults()["mappings"]])
            .flat_map(elements)
            .find_map(|mapping| mapping["options"][&key]["text"].as_str());
        mapped.map_or_else(|| format_value(value, self.unit()), str::to_owned)
    }

    fn no_value_text(&self) -> &str {
        self.defaults()["noValue"].as_str().unwrap_or("No data")
    }
}

/// A small number of things as a factor of lengths.
pub(super) fn count(things: usize) -> f64 {
    f64::from(u8::try_from(things).unwrap_or(u8::MAX))
}

pub(super) fn draw(canvas: &mut Canvas, panel: &PanelData<'_>) {
    let empty = panel.results.iter().all(|result| result.series.is_empty());
    match text(&panel.json["type"]) {
        _ if empty => draw_no_value(canvas, panel),
        "stat" => draw_stat(canvas, panel),
        "heatmap" => heatmap::draw(canvas, panel),
        "bargauge" => draw_bar_gauge(canvas, panel),
        "table" => table::draw(canvas, panel),
        "state-timeline" => state_timeline::draw(canvas, panel),
        _ => time_series::draw(canvas, panel),
    }
}

pub(super) fn draw_no_value(canvas: &mut Canvas, panel: &PanelData<'_>) {
    let (size, color) =
        if panel.json["type"] == "stat" { (28.0, GREEN) } else { (13.0, SECONDARY_TEXT_COLOR) };
    let center = (panel.width / 2.0, panel.height / 2.0 + 12.0);
    canvas.text(center, size, color, Anchor::Middle, panel.no_value_text());
}

fn draw_stat(canvas: &mut Canvas, panel: &PanelData<'_>) {
    let Some((name, series)) = panel.named_series().next() else { return };
    let value = series.last_value();
    let text = if value.is_nan() {
        panel.no_value_text().to_owned()
    } else if panel.json["options"]["textMode"] == "name" {
        name.clone()
    } else {
        panel.format(value)
    };
    let center = (panel.width / 2.0, panel.height / 2.0 + 18.0);
    canvas.text(center, 28.0, threshold_color(panel, value), Anchor::Middle, &text);
}

/// The colour of the last threshold that the value reaches.
fn threshold_color(panel: &PanelData<'_>, value: f64) -> &'static str {
    let steps = elements(&panel.defaults()["thresholds"]["steps"]);
    let reached = steps.iter().rfind(|step| step["value"].as_f64().is_none_or(|at| value >= at));
    match reached.map(|step| text(&step["color"])) {
        Some("red") => "#f2495c",
        Some("yellow") => "#f2cc0c",
        _ => GREEN,
    }
}

fn draw_bar_gauge(canvas: &mut Canvas, panel: &PanelData<'_>) {
    let mut bars: Vec<_> = panel
        .named_series()
        .filter_map(|(name, series)| Some((name, series.points.last()?.1)))
        .filter(|(_, value)| value.is_finite())
        .collect();
    bars.sort_by(|a, b| b.1.total_cmp(&a.1));
    let highest = bars.first().map_or(1.0, |(_, value)| value.max(1e-12));
    let bar_height = ((panel.height - 36.0) / count(bars.len())).clamp(12.0, 30.0);
    // A character at font size 11 is about 6 pixels wide.
    let longest_name = bars.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
    let names_width = (count(longest_name) * 6.0).min(panel.width * 0.6) + 8.0;
    let mut y = 30.0;
    for (name, value) in bars {
        let baseline = y + bar_height * 0.6;
        canvas.text((names_width, baseline), 11.0, TEXT_COLOR, Anchor::End, name);
        let length = (panel.width - names_width - 70.0) * value / highest;
        let size = (length.max(1.0), bar_height - 3.0);
        canvas.rectangle((names_width + 8.0, y + 1.0), size, ORANGE, 0.75);
        let value = panel.format(value);
        canvas.text((panel.width - 10.0, baseline), 11.0, TEXT_COLOR, Anchor::End, &value);
        y += bar_height;
    }
}
