//! Draws the latency histogram of one group of stalls.

use plotters::{
    prelude::{ChartBuilder, IntoDrawingArea as _, IntoFont as _, Rectangle},
    style::Color as _,
};
use stable_trace_common::histogram::upper_bound_ns;

use super::{
    PlotError,
    axis::Axis,
    labels::{bucket_durations, bucket_edge, float},
    svg_backend::{Class, Picture},
};
use crate::sink::bucket_range::BucketRange;

const SIZE: (u32, u32) = (320, 120);

/// Draws the buckets of a range, which is the same for all charts that are compared.
pub(super) fn draw(buckets: &[u64], range: BucketRange, label: &str) -> Result<String, PlotError> {
    let BucketRange { first, last } = range;
    let picture = Picture::default();
    let root = picture.backend(SIZE).into_drawing_area();
    let fullest = buckets.iter().copied().max().unwrap_or(0).max(1);
    #[expect(clippy::cast_precision_loss, reason = "a bar's height")]
    let height = |count: u64| count as f64 / fullest as f64;
    let edges = (first..=last + 1).filter(|bucket| bucket % 5 == 1).map(float).collect::<Vec<_>>();
    let mut chart = ChartBuilder::on(&root)
        .x_label_area_size(24)
        .margin_left(16)
        .margin_right(16)
        .margin_top(4)
        .build_cartesian_2d(Axis::new(float(first)..float(last + 1), edges), 0.0..1.0)?;
    chart
        .configure_mesh()
        .disable_mesh()
        .axis_style(Class::Axis.color())
        .label_style(("sans-serif", 12).into_font().color(&Class::Axis.color()))
        .x_labels(32)
        .y_labels(0)
        .x_label_formatter(&|x| bucket_edge(*x))
        .draw()?;
    for bucket in first..=last {
        let count = buckets.get(bucket).copied().unwrap_or(0);
        if count == 0 {
            continue;
        }
        picture.set_title(format!("{count} stalls of {}", bucket_durations(bucket)));
        // At least 1.5 %, so that a rare duration is visible.
        let top = height(count).max(0.015);
        let corners = [(float(bucket) + 0.06, top), (float(bucket + 1) - 0.06, 0.0)];
        let class = match upper_bound_ns(bucket).unwrap_or(u64::MAX) {
            100_000_001.. => Class::Bad,
            10_000_001.. => Class::Slow,
            _ => Class::Quick,
        };
        chart.draw_series([Rectangle::new(corners, class.color().filled())])?;
    }
    picture.set_title("");
    root.present()?;
    drop(chart);
    drop(root);
    Ok(picture.into_svg(SIZE, "lengths", label))
}
