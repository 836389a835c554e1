//! Draws a table panel: one row for each series.

use std::collections::BTreeMap;

use serde_json::Value;

use super::canvas::{Anchor, Canvas, TEXT_COLOR};
use super::panel::{PanelData, count};
use crate::json::elements;

/// The labels by which the `merge` transformation joins the rows of several queries.
const MERGE_LABELS: [&str; 2] = ["instance", "device"];

type Labels = Vec<(String, String)>;

#[derive(Default)]
struct Table {
    columns: Vec<String>,
    /// The cells of each row by column, sorted by the labels that identify the row.
    rows: BTreeMap<Labels, BTreeMap<String, String>>,
}

impl Table {
    fn new(panel: &PanelData<'_>) -> Self {
        let merged = panel.results.len() > 1;
        let mut table = Self::default();
        for result in &panel.results {
            let value_column =
                if merged { format!("Value #{}", result.ref_id) } else { "Value".to_owned() };
            for series in &result.series {
                let mut cells: BTreeMap<_, _> = series.labels.iter().cloned().collect();
                cells.insert(value_column.clone(), panel.format_mapped(series.last_value()));
                for column in series.labels.iter().map(|(label, _)| label).chain([&value_column]) {
                    if !table.columns.contains(column) {
                        table.columns.push(column.clone());
                    }
                }
                let identifies = |(label, _): &&(String, String)| {
                    !merged || MERGE_LABELS.contains(&label.as_str())
                };
                let key = series.labels.iter().filter(identifies).cloned().collect();
                table.rows.entry(key).or_default().extend(cells);
            }
        }
        table
    }

    /// Excludes and sorts columns as the `organize` transformation does.
    fn organize(&mut self, options: &Value) {
        self.columns.retain(|column| options["excludeByName"][column] != true);
        self.columns
            .sort_by_key(|column| options["indexByName"][column].as_u64().unwrap_or(u64::MAX));
    }
}

pub(super) fn draw(canvas: &mut Canvas, panel: &PanelData<'_>) {
    let organize = elements(&panel.json["transformations"])
        .iter()
        .find(|transformation| transformation["id"] == "organize")
        .map_or(&Value::Null, |transformation| &transformation["options"]);
    let mut table = Table::new(panel);
    table.organize(organize);
    let column_width = (panel.width - 16.0) / count(table.columns.len()).max(1.0);
    for (index, column) in (0_u8..).zip(&table.columns) {
        let x = 8.0 + column_width * f64::from(index);
        let heading = organize["renameByName"][column].as_str().unwrap_or(column);
        canvas.text((x, 38.0), 11.0, "#6e9fff", Anchor::Start, heading);
        let mut y = 56.0;
        for row in table.rows.values() {
            if y > panel.height - 8.0 {
                break;
            }
            let cell = row.get(column).map_or("", String::as_str);
            canvas.text((x, y), 11.0, TEXT_COLOR, Anchor::Start, cell);
            y += 17.0;
        }
    }
}
