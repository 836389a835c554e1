//! How long the stalls of one context on one device were.

use plotters::{
    prelude::{ChartBuilder, IntoDrawingArea as _, IntoFont as _, Rectangle},
    style::Color as _,
};
use stable_trace_common::histogram::upper_bound_ns;

use super::{
    PlotError,
    axis::Axis,
    svg_backend::{Ink, Sheet},
    timeline::{float, length, short},
};

const SIZE: (u32, u32) = (320, 120);

/// Draws the buckets from `first` to `last`, the same for all that are compared.
///
/// # Errors
/// Plotters cannot lay it out.
pub fn draw(buckets: &[u64], first: usize, last: usize, label: &str) -> Result<String, PlotError> {
    let sheet = Sheet::default();
    let root = sheet.canvas(SIZE.0, SIZE.1).into_drawing_area();
    let most = buckets.iter().copied().max().unwrap_or(0).max(1);
    #[expect(clippy::cast_precision_loss, reason = "a bar's height")]
    let part = |count: u64| count as f64 / most as f64;
    let edges = (first..=last + 1).filter(|row| row % 5 == 1).map(float).collect::<Vec<_>>();
    let mut chart = ChartBuilder::on(&root)
        .x_label_area_size(24)
        .margin_left(16)
        .margin_right(16)
        .margin_top(4)
        .build_cartesian_2d(Axis::new(float(first)..float(last + 1), edges), 0.0..1.0)?;
    chart
        .configure_mesh()
        .disable_mesh()
        .axis_style(Ink::Axis.color())
        .label_style(("sans-serif", 12).into_font().color(&Ink::Axis.color()))
        .x_labels(32)
        .y_labels(0)
        .x_label_formatter(&|x| label_of(*x))
        .draw()?;
    for row in first..=last {
        let count = buckets.get(row).copied().unwrap_or(0);
        if count == 0 {
            continue;
        }
        sheet.title(format!("{count} stalls of {}", length(row)));
        // What is rare is still to be seen.
        let corners = [(float(row) + 0.06, part(count).max(0.015)), (float(row + 1) - 0.06, 0.0)];
        let ink = match upper_bound_ns(row).unwrap_or(u64::MAX) {
            100_000_001.. => Ink::Bad,
            10_000_001.. => Ink::Slow,
            _ => Ink::Quick,
        };
        chart.draw_series([Rectangle::new(corners, ink.color().filled())])?;
    }
    sheet.title("");
    root.present()?;
    drop(chart);
    drop(root);
    Ok(sheet.svg(SIZE, "lengths", label))
}

fn label_of(edge: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a row's number")]
    let row = edge.round().max(0.0) as usize;
    row.checked_sub(1).and_then(upper_bound_ns).map_or_else(|| "0".to_owned(), short)
}
