//! Draws a time series panel: lines, stacked areas, or stacked bars.

use std::collections::BTreeMap;

use super::axes::Axes;
use super::canvas::{Anchor, Canvas, TEXT_COLOR};
use super::panel::{PanelData, count};
use crate::prometheus::Series;

/// The colours of the series, in turn.
const COLORS: [&str; 10] = [
    "#73bf69", "#f2cc0c", "#8ab8ff", "#ff780a", "#f2495c", "#5794f2", "#b877d9", "#705da0",
    "#37872d", "#fade2a",
];

/// A value of one series on top of the series below it.
struct StackedPoint {
    time: f64,
    base: f64,
    top: f64,
}

pub(super) fn draw(canvas: &mut Canvas, panel: &PanelData<'_>) {
    let custom = &panel.defaults()["custom"];
    let stacked = custom["stacking"]["mode"] == "normal";
    let bars = custom["drawStyle"] == "bars";
    let all: Vec<_> = panel.named_series().collect();
    let legend_rows = all.len().min(if panel.height > 300.0 { 8 } else { 5 });
    let log_scale = custom["scaleDistribution"]["type"] == "log";

    let stack = stack(&all, stacked);
    let tops = || stack.iter().flatten().map(|point| point.top);
    let high = tops().fold(f64::MIN_POSITIVE, f64::max) * 1.05;
    let smallest = tops().filter(|value| *value > 0.0).fold(high, f64::min);
    let axes = Axes {
        left: 62.0,
        top: 28.0,
        right: panel.width - 14.0,
        bottom: panel.height - 26.0 - 14.0 * count(legend_rows),
        time_range: panel.time_range,
        low: if log_scale { smallest / 1.5 } else { 0.0 },
        high: panel.defaults()["max"].as_f64().unwrap_or(if high > 1e-12 { high } else { 1.0 }),
        log_scale,
    };
    axes.draw(canvas, panel.unit());
    for (points, color) in stack.iter().zip(COLORS.iter().cycle()) {
        if bars {
            draw_bars(canvas, &axes, points, color);
        } else {
            draw_line(canvas, &axes, points, color, stacked);
        }
    }
    draw_legend(canvas, panel, &axes, &all, legend_rows);
}

fn stack(all: &[(&String, &Series)], stacked: bool) -> Vec<Vec<StackedPoint>> {
    // Whole milliseconds, so that points of the same time are equal.
    #[expect(clippy::cast_possible_truncation, reason = "milliseconds since 1970 fit in i64")]
    let milliseconds = |time: f64| (time * 1000.0) as i64;
    let mut sums: BTreeMap<i64, f64> = BTreeMap::new();
    let mut stack = Vec::new();
    for (_, series) in all {
        let mut points = Vec::new();
        for (time, value) in series.points.iter().filter(|(_, value)| value.is_finite()) {
            let mut base = 0.0;
            if stacked {
                let sum = sums.entry(milliseconds(*time)).or_default();
                base = *sum;
                *sum += value;
            }
            points.push(StackedPoint { time: *time, base, top: base + value });
        }
        stack.push(points);
    }
    stack
}

fn draw_bars(canvas: &mut Canvas, axes: &Axes, points: &[StackedPoint], color: &str) {
    for point in points.iter().filter(|point| point.top > point.base) {
        let (y, bottom) = (axes.y(point.top), axes.y(point.base));
        canvas.rectangle((axes.x(point.time) - 2.0, y), (4.0, bottom - y), color, 0.8);
    }
}

fn draw_line(
    canvas: &mut Canvas,
    axes: &Axes,
    points: &[StackedPoint],
    color: &str,
    fill_to_base: bool,
) {
    let line: Vec<_> = points.iter().map(|point| (axes.x(point.time), axes.y(point.top))).collect();
    if fill_to_base {
        let base = points.iter().rev().map(|point| (axes.x(point.time), axes.y(point.base)));
        let outline: Vec<_> = line.iter().copied().chain(base).collect();
        canvas.area(&outline, color, 0.4);
    }
    canvas.line(&line, color);
}

fn draw_legend(
    canvas: &mut Canvas,
    panel: &PanelData<'_>,
    axes: &Axes,
    all: &[(&String, &Series)],
    rows: usize,
) {
    for (row, ((name, series), color)) in
        all.iter().zip(COLORS.iter().cycle()).take(rows).enumerate()
    {
        let y = axes.bottom + 28.0 + 14.0 * count(row);
        canvas.rectangle((axes.left, y - 5.0), (12.0, 3.0), color, 1.0);
        let hidden = all.len() - rows;
        let suffix = if row + 1 == rows && hidden > 0 {
            format!(" (and {hidden} more)")
        } else {
            String::new()
        };
        let label = format!("{name}{suffix}");
        canvas.text((axes.left + 18.0, y), 11.0, TEXT_COLOR, Anchor::Start, &label);
        let value = panel.format(series.last_value());
        canvas.text((axes.right, y), 11.0, TEXT_COLOR, Anchor::End, &value);
    }
}
