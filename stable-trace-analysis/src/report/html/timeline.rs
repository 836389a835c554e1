//! Stalls over time: how many of which length, with failed checks and workloads marked.

use plotters::{
    prelude::{
        ChartBuilder, IntoDrawingArea as _, IntoFont as _, PathElement, Polygon, Rectangle, Text,
    },
    style::{Color as _, TextStyle, text_anchor},
};
use stable_trace_common::histogram::{BUCKETS, upper_bound_ns};

use super::{
    PlotError,
    axis::Axis,
    svg_backend::{Ink, Sheet},
};
use crate::{
    report::{Bin, Report},
    sink::style::duration,
};

/// One picture's measures.
#[derive(Clone, Copy, Debug)]
pub struct Measures {
    /// Its class, by which the style sheet shows it or another.
    pub class: &'static str,
    width: u32,
    /// Of one row, in pixels.
    row: u32,
    /// The most bins.
    bins: usize,
    /// The most labels of the time axis.
    labels: usize,
}

/// For a desk, for a tablet and for a phone: each is drawn for its width, so that its letters keep
/// their size.
pub const EACH: [Measures; 3] = [
    Measures { class: "wide", width: 1040, row: 20, bins: 120, labels: 12 },
    Measures { class: "middle", width: 600, row: 18, bins: 80, labels: 8 },
    Measures { class: "narrow", width: 340, row: 16, bins: 40, labels: 4 },
];

/// Rows above the stalls for failed checks, and below for workloads.
const ABOVE: f64 = 1.6;
const BELOW: f64 = 1.5;

/// What the picture shows, ready to be drawn.
struct Field {
    bins: Vec<Bin>,
    bin_s: f64,
    first: usize,
    last: usize,
    most: u64,
}

impl Field {
    fn of(report: &Report, most: usize) -> Self {
        let (width_ns, bins) = report.heat.bins(most, report.span_ns.1);
        let filled = |row: &usize| bins.iter().any(|bin| cell(bin, *row) > 0);
        let first = (0..BUCKETS).find(filled).unwrap_or(8);
        let last = (0..BUCKETS).rev().find(filled).unwrap_or(12);
        let most = bins.iter().flat_map(|bin| bin.stalls).max().unwrap_or(0);
        Self { bin_s: seconds(width_ns), bins, first, last, most }
    }

    fn until(&self) -> f64 {
        float(self.bins.len()) * self.bin_s
    }

    /// From 0 to 6, in equal ratios.
    fn level(&self, count: u64) -> u8 {
        if self.most <= 1 {
            return 6;
        }
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a shade, between 0 and 6"
        )]
        let level = ((count as f64).ln() / (self.most as f64).ln() * 6.0).round() as u8;
        level.min(6)
    }

    /// When a bin was, in words.
    fn when(&self, bin: usize) -> String {
        let (from, to) = (float(bin) * self.bin_s, float(bin + 1) * self.bin_s);
        format!("{} to {}", time(from, self.bin_s), time(to, self.bin_s))
    }
}

/// Draws the picture.
///
/// # Errors
/// Plotters cannot lay it out.
pub fn draw(report: &Report, measures: Measures) -> Result<String, PlotError> {
    let field = Field::of(report, measures.bins);
    let rows = field.last + 1 - field.first;
    let height = u32::try_from(rows).unwrap_or(28) * measures.row + (measures.row * 31) / 10 + 34;
    let size = (measures.width, height);
    let sheet = Sheet::default();
    let root = sheet.canvas(size.0, size.1).into_drawing_area();

    let (low, high) = (float(field.first), float(field.last + 1));
    let until = field.until();
    let ticks = ticks(until, measures.labels);
    let step = ticks.get(1).copied().unwrap_or(1.0);
    let edges = (field.first..=field.last + 1).step_by(if rows > 14 { 2 } else { 1 });
    let edges: Vec<f64> = edges.map(float).collect();
    let mut chart = ChartBuilder::on(&root)
        .x_label_area_size(28)
        .y_label_area_size(52)
        .margin_right(14)
        .margin_top(4)
        .build_cartesian_2d(
            Axis::new(0.0..until, ticks),
            Axis::new(low - BELOW..high + ABOVE, edges),
        )?;
    let label = ("sans-serif", 12).into_font().color(&Ink::Axis.color());
    chart
        .configure_mesh()
        .disable_mesh()
        .axis_style(Ink::Axis.color())
        .label_style(label)
        .x_labels(64)
        .y_labels(64)
        .x_label_formatter(&|x| time(*x, step))
        .y_label_formatter(&|y| edge(*y))
        .draw()?;

    for (index, bin) in field.bins.iter().enumerate() {
        let (from, to) = (float(index) * field.bin_s, float(index + 1) * field.bin_s);
        for row in field.first..=field.last {
            let count = cell(bin, row);
            if count == 0 {
                continue;
            }
            sheet.title(format!("{}: {count} stalls of {}", field.when(index), length(row)));
            let ink = Ink::Timeline(field.level(count)).color().filled();
            let corners = [(from, float(row + 1)), (to, float(row))];
            chart.draw_series([Rectangle::new(corners, ink)])?;
        }
        if bin.lost > 0 {
            sheet.title(format!("{}: {} lines lost", field.when(index), bin.lost));
            let corners = [(from, high + 0.4), (to, high + 0.15)];
            chart.draw_series([Rectangle::new(corners, Ink::Lost.color().filled())])?;
        }
        if bin.errors > 0 {
            sheet.title(format!("{}: {} integrity errors", field.when(index), bin.errors));
            let middle = f64::midpoint(from, to);
            let line = vec![(middle, low), (middle, high + 0.5)];
            chart.draw_series([PathElement::new(line, Ink::ErrorLine.color())])?;
            let reach = until * 5.0 / f64::from(measures.width - 66);
            let diamond = vec![
                (middle - reach, high + 0.95),
                (middle, high + 1.35),
                (middle + reach, high + 0.95),
                (middle, high + 0.55),
            ];
            chart.draw_series([Polygon::new(diamond, Ink::Error.color().filled())])?;
        }
    }

    let name = ("sans-serif", 12).into_font().color(&Ink::PhaseName.color());
    let name: TextStyle<'_> =
        name.pos(text_anchor::Pos::new(text_anchor::HPos::Left, text_anchor::VPos::Center));
    for phase in &report.phases {
        let since = |ns: u64| seconds(ns.saturating_sub(report.heat.origin_ns()));
        let from = since(phase.from_ns).min(until);
        let to = since(phase.to_ns.unwrap_or(report.span_ns.1)).clamp(from, until);
        let done = &phase.workload;
        sheet.title(format!(
            "wac {}: {} threads, {} operations, from {} to {}",
            phase.profile,
            done.threads,
            done.operations,
            time(from, 0.1),
            time(to, 0.1)
        ));
        let corners = [(from, low - 0.3), (to, low - 1.2)];
        chart.draw_series([Rectangle::new(corners, Ink::Phase.color().filled())])?;
        sheet.title("");
        // Where it fits: its letters must not run into the next one's.
        let space = (to - from) / until * f64::from(measures.width - 66);
        let words = format!("wac {}", phase.profile);
        if space > 7.0 * float(words.chars().count()) + 8.0 {
            let at = (from + until * 4.0 / f64::from(measures.width), low - 0.75);
            chart.draw_series([Text::new(words, at, name.clone())])?;
        }
    }
    sheet.title("");
    root.present()?;
    drop(chart);
    drop(root);
    Ok(sheet.svg(size, measures.class, "Stalls over time, by their length"))
}

/// The same in numbers, for whoever does not see it: at most `most` rows of time, stalls, the longest
/// one's bound, and failed checks.
pub fn rows(report: &Report, most: usize) -> Vec<[String; 4]> {
    let field = Field::of(report, most);
    let row = |(index, bin): (usize, &Bin)| {
        let count: u64 = bin.stalls.iter().sum();
        let longest = (0..BUCKETS).rev().find(|row| cell(bin, *row) > 0);
        [
            field.when(index),
            count.to_string(),
            longest.map_or_else(|| "–".to_owned(), length),
            bin.errors.to_string(),
        ]
    };
    field.bins.iter().enumerate().map(row).collect()
}

fn cell(bin: &Bin, row: usize) -> u64 {
    bin.stalls.get(row).copied().unwrap_or(0)
}

/// The length of a bucket's stalls, in words.
pub fn length(row: usize) -> String {
    let from = row.checked_sub(1).and_then(upper_bound_ns).unwrap_or(0);
    match upper_bound_ns(row) {
        Some(to) => format!("{} to {}", duration(from), duration(to)),
        None => format!("more than {}", duration(from)),
    }
}

/// The lower edge of a bucket, as an axis has it.
fn edge(row: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a row's number")]
    let row = row.round().max(0.0) as usize;
    match row.checked_sub(1).and_then(upper_bound_ns) {
        None => "0".to_owned(),
        Some(ns) => short(ns),
    }
}

/// A power of two of a µs with the digits that it needs: `16µs`, `1ms`, `2.1s`.
pub fn short(ns: u64) -> String {
    let (unit, name) = match ns {
        1_000_000_000.. => (1_000_000_000, "s"),
        1_000_000.. => (1_000_000, "ms"),
        _ => (1_000, "µs"),
    };
    let tenths = (ns * 10 + unit / 2) / unit;
    if tenths >= 100 || tenths.is_multiple_of(10) {
        format!("{}{name}", (tenths + 5) / 10)
    } else {
        format!("{}.{}{name}", tenths / 10, tenths % 10)
    }
}

/// Seconds since the beginning: `1.5s`, `2:05`, `1:02:05`.
fn time(s: f64, step: f64) -> String {
    if s < 60.0 {
        let places = if step >= 1.0 {
            0
        } else if step >= 0.1 {
            1
        } else {
            3
        };
        return format!("{s:.places$}s");
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "is not below 60")]
    let whole = s.round() as u64;
    let (hours, minutes, seconds) = (whole / 3600, whole / 60 % 60, whole % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes}:{seconds:02}")
    }
}

/// Round times, at most so many.
fn ticks(until: f64, most: usize) -> Vec<f64> {
    const STEPS: [f64; 20] = [
        0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0,
        7200.0, 21_600.0, 43_200.0, 86_400.0, 604_800.0,
    ];
    let fits = |step: &&f64| until / **step <= float(most);
    let step = STEPS.iter().find(fits).copied().unwrap_or(until.max(0.1) / float(most));
    (0..=most).map(|index| float(index) * step).take_while(|tick| *tick <= until).collect()
}

fn seconds(ns: u64) -> f64 {
    std::time::Duration::from_nanos(ns).as_secs_f64()
}

#[expect(clippy::cast_precision_loss, reason = "bins and rows are few")]
pub const fn float(number: usize) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_round_and_read_like_times() {
        assert_eq!(ticks(6.1, 12), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(ticks(3600.0, 4), [0.0, 1800.0, 3600.0]);
        for until in [0.001, 0.5, 59.0, 86_400.0, 1e12] {
            assert!((1..=5).contains(&ticks(until, 4).len()), "{until}");
        }
        assert_eq!(
            [time(1.5, 0.1), time(125.0, 1.0), time(3725.0, 1.0)],
            ["1.5s", "2:05", "1:02:05"]
        );
    }

    #[test]
    fn edges_are_short() {
        let edges: Vec<_> =
            [0, 1, 5, 11, 12, 15, 21, 22].iter().map(|row| edge(float(*row))).collect();
        assert_eq!(edges, ["0", "1µs", "16µs", "1ms", "2ms", "16ms", "1s", "2.1s"]);
    }

    #[test]
    fn a_report_of_nothing_has_a_picture_too() {
        for measures in EACH {
            let svg = draw(&Report::default(), measures).unwrap();
            assert!(svg.starts_with("<svg") && svg.ends_with("</svg>"), "{svg}");
        }
    }
}
