//! Draws a stat panel: one large value.

use super::canvas::{Anchor, Canvas, GREEN};
use super::panel::PanelData;
use crate::json::{elements, text};

pub(super) fn draw(canvas: &mut Canvas, panel: &PanelData<'_>) {
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
