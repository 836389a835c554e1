//! Draws a state timeline panel: one band for each series, coloured by its value.

use super::axes::Axes;
use super::canvas::{Anchor, Canvas, GREEN, ORANGE, TEXT_COLOR};
use super::panel::{PanelData, count};

pub(super) fn draw(canvas: &mut Canvas, panel: &PanelData<'_>) {
    let axes = Axes {
        left: 150.0,
        top: 28.0,
        right: panel.width - 14.0,
        bottom: panel.height - 26.0,
        time_range: panel.time_range,
        low: 0.0,
        high: 1.0,
        log_scale: false,
    };
    let bands = panel.named_series().count();
    let band_height = (axes.bottom - axes.top) / count(bands).max(1.0);
    let mut y = axes.top;
    for (name, series) in panel.named_series() {
        let baseline = y + band_height * 0.6;
        canvas.text((axes.left - 6.0, baseline), 10.0, TEXT_COLOR, Anchor::End, name);
        for (time, value) in &series.points {
            let color = if *value > 0.5 { GREEN } else { ORANGE };
            let x = axes.x(*time);
            let width = axes.x(time + panel.time_range.step()).min(axes.right) - x;
            canvas.rectangle((x, y + 1.0), (width.max(0.0), band_height - 2.0), color, 0.7);
        }
        let last = series.points.last().map_or(0.0, |(_, value)| *value);
        let state = panel.format_mapped(last);
        canvas.text((axes.left + 4.0, baseline), 10.0, TEXT_COLOR, Anchor::Start, &state);
        y += band_height;
    }
    axes.draw_time_labels(canvas);
}
