//! The data of a panel.

use serde_json::Value;

use super::canvas::{Anchor, Canvas, GREEN, SECONDARY_TEXT_COLOR};
use super::unit::format_value;
use super::{QueryResult, TimeRange};
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

    pub(super) fn no_value_text(&self) -> &str {
        self.defaults()["noValue"].as_str().unwrap_or("No data")
    }
}

/// A small number of things as a factor of lengths.
pub(super) fn count(things: usize) -> f64 {
    f64::from(u8::try_from(things).unwrap_or(u8::MAX))
}

pub(super) fn draw_no_value(canvas: &mut Canvas, panel: &PanelData<'_>) {
    let (size, color) =
        if panel.json["type"] == "stat" { (28.0, GREEN) } else { (13.0, SECONDARY_TEXT_COLOR) };
    let center = (panel.width / 2.0, panel.height / 2.0 + 12.0);
    canvas.text(center, size, color, Anchor::Middle, panel.no_value_text());
}
