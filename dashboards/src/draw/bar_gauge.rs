//! Draws a bar gauge panel: one bar for each series.

use super::canvas::{Anchor, Canvas, ORANGE, TEXT_COLOR};
use super::panel::{PanelData, count};

pub(super) fn draw(canvas: &mut Canvas, panel: &PanelData<'_>) {
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
