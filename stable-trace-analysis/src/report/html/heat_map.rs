//! Draws a heat map of stall latency over time, with integrity errors and workloads.

use plotters::{
    chart::ChartContext,
    coord::cartesian::Cartesian2d,
    prelude::{
        ChartBuilder, IntoDrawingArea as _, IntoFont as _, PathElement, Polygon, Rectangle, Text,
    },
    style::{
        Color as _,
        text_anchor::{HPos, Pos, VPos},
    },
};
use stable_trace_common::histogram::BUCKETS;

use super::{
    PlotError,
    axis::Axis,
    labels::{bucket_durations, bucket_edge, elapsed, float},
    svg_backend::{Class, Picture, SvgBackend},
};
use crate::{
    report::{Report, builder::WorkloadPhase, timeline::Bin},
    sink::bucket_range::BucketRange,
};

/// The size of a heat map and its parts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    /// The CSS class, by which the style sheet shows one of the layouts.
    class: &'static str,
    width: u32,
    /// In pixels.
    row_height: u32,
    max_columns: usize,
    max_time_labels: usize,
}

/// The layouts for a desktop, a tablet and a phone. An SVG scaled to another width would scale its
/// text, too.
pub(super) const LAYOUTS: [Layout; 3] = [
    Layout { class: "wide", width: 1040, row_height: 20, max_columns: 120, max_time_labels: 12 },
    Layout { class: "middle", width: 600, row_height: 18, max_columns: 80, max_time_labels: 8 },
    Layout { class: "narrow", width: 340, row_height: 16, max_columns: 40, max_time_labels: 4 },
];

impl Layout {
    /// The width between the axis labels and the margin, in pixels.
    fn chart_width(self) -> f64 {
        f64::from(self.width - Y_LABELS - RIGHT_MARGIN)
    }
}

/// The width of the labels of the y axis, and of the margin on the right, in pixels.
const Y_LABELS: u32 = 52;
const RIGHT_MARGIN: u32 = 14;

/// Rows above the stalls, for integrity errors and lost lines.
const ROWS_ABOVE: f64 = 1.6;
/// Rows below the stalls, for workloads.
const ROWS_BELOW: f64 = 1.5;

/// The data of a heat map: a column for each bin, a row for each bucket.
struct HeatMap {
    bins: Vec<Bin>,
    /// The width of a bin in seconds.
    bin_s: f64,
    first: usize,
    last: usize,
    /// The largest count of a cell.
    max_count: u64,
}

impl HeatMap {
    fn of(report: &Report, max_columns: usize) -> Self {
        let (width_ns, bins) = report.timeline.bins(max_columns, report.span_ns.1);
        let BucketRange { first, last } = BucketRange::of(bins.iter().map(|bin| &bin.stalls[..]))
            .unwrap_or(BucketRange { first: 8, last: 12 });
        let max_count = bins.iter().flat_map(|bin| bin.stalls).max().unwrap_or(0);
        Self { bin_s: seconds(width_ns), bins, first, last, max_count }
    }

    /// The lower edge of the first row and the upper edge of the last one.
    fn row_edges(&self) -> (f64, f64) {
        (float(self.first), float(self.last + 1))
    }

    /// The end of the last bin in seconds.
    fn end(&self) -> f64 {
        float(self.bins.len()) * self.bin_s
    }

    /// The colour of a cell, from 0 to 6 on a logarithmic scale.
    fn level(&self, count: u64) -> u8 {
        if self.max_count <= 1 {
            return 6;
        }
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 0 and 6"
        )]
        let level = ((count as f64).ln() / (self.max_count as f64).ln() * 6.0).round() as u8;
        level.min(6)
    }

    fn times_of_bin(&self, bin: usize) -> String {
        let (from, to) = (float(bin) * self.bin_s, float(bin + 1) * self.bin_s);
        format!("{} to {}", elapsed(from, self.bin_s), elapsed(to, self.bin_s))
    }
}

pub(super) fn draw(report: &Report, layout: Layout) -> Result<String, PlotError> {
    let map = HeatMap::of(report, layout.max_columns);
    let rows = map.last + 1 - map.first;
    let height =
        u32::try_from(rows).unwrap_or(28) * layout.row_height + (layout.row_height * 31) / 10 + 34;
    let size = (layout.width, height);
    let picture = Picture::default();
    let root = picture.backend(size).into_drawing_area();

    let (low, high) = map.row_edges();
    let end = map.end();
    let ticks = ticks(end, layout.max_time_labels);
    let step = ticks.get(1).copied().unwrap_or(1.0);
    let edges = (map.first..=map.last + 1).step_by(if rows > 14 { 2 } else { 1 });
    let edges: Vec<f64> = edges.map(float).collect();
    let mut chart = ChartBuilder::on(&root)
        .x_label_area_size(28)
        .y_label_area_size(Y_LABELS)
        .margin_right(RIGHT_MARGIN)
        .margin_top(4)
        .build_cartesian_2d(
            Axis::new(0.0..end, ticks),
            Axis::new(low - ROWS_BELOW..high + ROWS_ABOVE, edges),
        )?;
    let label = ("sans-serif", 12).into_font().color(&Class::Axis.color());
    chart
        .configure_mesh()
        .disable_mesh()
        .axis_style(Class::Axis.color())
        .label_style(label)
        .x_labels(64)
        .y_labels(64)
        .x_label_formatter(&|x| elapsed(*x, step))
        .y_label_formatter(&|y| bucket_edge(*y))
        .draw()?;

    let mut painter = Painter { map: &map, layout, picture: &picture, chart };
    for (index, bin) in map.bins.iter().enumerate() {
        painter.bin(index, bin)?;
    }
    let since_start = |ns: u64| seconds(ns.saturating_sub(report.timeline.origin_ns()));
    for phase in &report.phases {
        let from = since_start(phase.from_ns).min(end);
        let to = since_start(phase.to_ns.unwrap_or(report.span_ns.1)).clamp(from, end);
        painter.phase(phase, from, to)?;
    }
    picture.set_title("");
    root.present()?;
    drop(painter);
    drop(root);
    Ok(picture.into_svg(size, layout.class, "Stall latency over time"))
}

type Chart<'a> = ChartContext<'a, SvgBackend, Cartesian2d<Axis, Axis>>;

/// Draws the contents of a chart whose axes are drawn already.
struct Painter<'a> {
    map: &'a HeatMap,
    layout: Layout,
    picture: &'a Picture,
    chart: Chart<'a>,
}

impl Painter<'_> {
    /// Draws the marks of one bin.
    fn bin(&mut self, index: usize, bin: &Bin) -> Result<(), PlotError> {
        let Self { map, layout, picture, chart } = self;
        let (from, to) = (float(index) * map.bin_s, float(index + 1) * map.bin_s);
        let (low, high) = map.row_edges();
        let times = map.times_of_bin(index);
        for row in map.first..=map.last {
            let count = cell(bin, row);
            if count == 0 {
                continue;
            }
            picture.set_title(format!("{times}: {count} stalls of {}", bucket_durations(row)));
            let style = Class::Heat(map.level(count)).color().filled();
            let corners = [(from, float(row + 1)), (to, float(row))];
            chart.draw_series([Rectangle::new(corners, style)])?;
        }
        if bin.lost > 0 {
            picture.set_title(format!("{times}: {} lost events", bin.lost));
            let corners = [(from, high + 0.4), (to, high + 0.15)];
            chart.draw_series([Rectangle::new(corners, Class::Lost.color().filled())])?;
        }
        if bin.errors > 0 {
            picture.set_title(format!("{times}: {} integrity errors", bin.errors));
            let middle = f64::midpoint(from, to);
            let line = vec![(middle, low), (middle, high + 0.5)];
            chart.draw_series([PathElement::new(line, Class::ErrorLine.color())])?;
            let half_width = map.end() * 5.0 / layout.chart_width();
            let diamond = vec![
                (middle - half_width, high + 0.95),
                (middle, high + 1.35),
                (middle + half_width, high + 0.95),
                (middle, high + 0.55),
            ];
            chart.draw_series([Polygon::new(diamond, Class::Error.color().filled())])?;
        }
        Ok(())
    }

    /// Draws a workload between two times in seconds.
    fn phase(&mut self, phase: &WorkloadPhase, from: f64, to: f64) -> Result<(), PlotError> {
        let Self { map, layout, picture, chart } = self;
        let (low, _) = map.row_edges();
        picture.set_title(format!(
            "wac {}: {} threads, {} operations, from {} to {}",
            phase.workload.profile,
            phase.workload.threads,
            phase.workload.operations,
            elapsed(from, 0.1),
            elapsed(to, 0.1)
        ));
        let corners = [(from, low - 0.3), (to, low - 1.2)];
        chart.draw_series([Rectangle::new(corners, Class::Phase.color().filled())])?;
        picture.set_title("");
        let text = format!("wac {}", phase.workload.profile);
        let width = (to - from) / map.end() * layout.chart_width();
        if width > 7.0 * float(text.chars().count()) + 8.0 {
            let at = (from + map.end() * 4.0 / f64::from(layout.width), low - 0.75);
            let position = Pos::new(HPos::Left, VPos::Center);
            let style = ("sans-serif", 12).into_font().color(&Class::PhaseName.color());
            chart.draw_series([Text::new(text, at, style.pos(position))])?;
        }
        Ok(())
    }
}

/// The data as a table of at most `limit` rows: time, stalls, the bucket of the longest stall, and
/// integrity errors.
pub(super) fn rows(report: &Report, limit: usize) -> Vec<[String; 4]> {
    let map = HeatMap::of(report, limit);
    let row = |(index, bin): (usize, &Bin)| {
        let count: u64 = bin.stalls.iter().sum();
        let longest = (0..BUCKETS).rev().find(|row| cell(bin, *row) > 0);
        [
            map.times_of_bin(index),
            count.to_string(),
            longest.map_or_else(|| "–".to_owned(), bucket_durations),
            bin.errors.to_string(),
        ]
    };
    map.bins.iter().enumerate().map(row).collect()
}

fn cell(bin: &Bin, row: usize) -> u64 {
    bin.stalls.get(row).copied().unwrap_or(0)
}

/// At most `limit` ticks with a round distance, plus one at 0.
fn ticks(end: f64, limit: usize) -> Vec<f64> {
    const STEPS: [f64; 20] = [
        0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0,
        7200.0, 21_600.0, 43_200.0, 86_400.0, 604_800.0,
    ];
    let fits = |step: &&f64| end / **step <= float(limit);
    let step = STEPS.iter().find(fits).copied().unwrap_or(end.max(0.1) / float(limit));
    (0..=limit).map(|index| float(index) * step).take_while(|tick| *tick <= end).collect()
}

fn seconds(ns: u64) -> f64 {
    std::time::Duration::from_nanos(ns).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_have_round_distances() {
        assert_eq!(ticks(6.1, 12), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(ticks(3600.0, 4), [0.0, 1800.0, 3600.0]);
        for end in [0.001, 0.5, 59.0, 86_400.0, 1e12] {
            assert!((1..=5).contains(&ticks(end, 4).len()), "{end}");
        }
    }

    #[test]
    fn an_empty_report_has_a_heat_map() {
        for layout in LAYOUTS {
            let svg = draw(&Report::default(), layout).unwrap();
            assert!(svg.starts_with("<svg") && svg.ends_with("</svg>"), "{svg}");
        }
    }
}
