//! Draws a heat map of histogram buckets over time.

use std::collections::BTreeMap;

use super::QueryResult;
use super::axes::Axes;
use super::canvas::{Canvas, ORANGE};
use super::panel::{PanelData, draw_no_value};

/// The observations in one bucket at one time.
struct Cell {
    time: f64,
    upper_bound: f64,
    count: f64,
}

/// Adjacent cells of one bucket and one opacity, drawn as one rectangle to keep the picture small.
struct Run {
    upper_bound: f64,
    opacity: f64,
    left: f64,
    right: f64,
}

pub(super) fn draw(canvas: &mut Canvas, panel: &PanelData<'_>) {
    let cells = cells(&panel.results);
    if cells.is_empty() {
        return draw_no_value(canvas, panel);
    }
    let upper_bounds = || cells.iter().map(|cell| cell.upper_bound);
    let axes = Axes {
        left: 62.0,
        top: 28.0,
        right: panel.width - 14.0,
        bottom: panel.height - 26.0,
        time_range: panel.time_range,
        low: upper_bounds().fold(f64::MAX, f64::min) / 2.0,
        high: upper_bounds().fold(0.0, f64::max),
        log_scale: true,
    };
    for run in runs(cells, &axes) {
        let (y, bottom) = (axes.y(run.upper_bound), axes.y(run.upper_bound / 2.0));
        let size = (run.right - run.left, bottom - y - 0.5);
        canvas.rectangle((run.left, y), size, ORANGE, run.opacity);
    }
    axes.draw(canvas, "s");
}

/// The non-empty cells. Prometheus' buckets are cumulative, so a cell is the difference between two.
fn cells(results: &[QueryResult]) -> Vec<Cell> {
    let mut buckets: Vec<(f64, &[(f64, f64)])> = results
        .iter()
        .flat_map(|result| &result.series)
        .filter_map(|series| Some((series.label("le").parse().ok()?, series.points.as_slice())))
        .filter(|(upper_bound, _): &(f64, _)| upper_bound.is_finite())
        .collect();
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut cells = Vec::new();
    let mut cumulative: BTreeMap<u64, f64> = BTreeMap::new();
    for (upper_bound, points) in buckets {
        for (time, value) in points {
            let lower = cumulative.insert(time.to_bits(), *value).unwrap_or(0.0);
            let count = value - lower;
            if count > 1e-9 {
                cells.push(Cell { time: *time, upper_bound, count });
            }
        }
    }
    cells
}

fn runs(mut cells: Vec<Cell>, axes: &Axes) -> Vec<Run> {
    let highest_count = cells.iter().map(|cell| cell.count).fold(0.0, f64::max);
    let cell_width = axes.x(axes.time_range.start + axes.time_range.step()) - axes.left;
    cells.sort_by(|a, b| a.upper_bound.total_cmp(&b.upper_bound).then(a.time.total_cmp(&b.time)));
    let equal = |a: f64, b: f64| a.total_cmp(&b).is_eq();
    let mut runs: Vec<Run> = Vec::new();
    for Cell { time, upper_bound, count } in cells {
        let right = axes.x(time);
        let left = (right - cell_width).max(axes.left);
        let opacity = ((count / highest_count).sqrt() * 12.0).ceil() / 12.0;
        match runs.last_mut() {
            Some(run)
                if equal(run.upper_bound, upper_bound)
                    && equal(run.opacity, opacity)
                    && left - run.right < 0.5 =>
            {
                run.right = right;
            }
            _ => runs.push(Run { upper_bound, opacity, left, right }),
        }
    }
    runs
}
