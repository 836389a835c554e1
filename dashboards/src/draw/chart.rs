//! What stands in each kind of panel.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::svg::{FAINT, Svg, TEXT};
use super::unit::shown as in_unit;
use super::{Answer, Shown, text};
use crate::asked::list;

/// One for each series, by turns.
const COLORS: [&str; 10] = [
    "#73bf69", "#f2cc0c", "#8ab8ff", "#ff780a", "#f2495c", "#5794f2", "#b877d9", "#705da0",
    "#37872d", "#fade2a",
];

type Size = (f64, f64);

/// Draws one panel's inside.
pub(super) fn panel(svg: &mut Svg, panel: &Value, answers: &[Answer], shown: Shown, size: Size) {
    let empty = answers.iter().all(|answer| answer.series.is_empty());
    match text(&panel["type"]) {
        _ if empty => nothing(svg, panel, size),
        "stat" => number(svg, panel, answers, size),
        "heatmap" => heat(svg, panel, answers, shown, size),
        "bargauge" => ranking(svg, panel, answers, size),
        "table" => table(svg, panel, answers, size),
        "state-timeline" => states(svg, panel, answers, shown, size),
        _ => lines(svg, panel, answers, shown, size),
    }
}

fn defaults(panel: &Value) -> &Value {
    &panel["fieldConfig"]["defaults"]
}

/// A value in the panel's unit; a dash where there is none.
fn worded(panel: &Value, value: f64) -> String {
    if value.is_nan() { "–".to_owned() } else { in_unit(rounded(panel, value), unit(panel)) }
}

/// Where a panel wants no digits after the point.
fn rounded(panel: &Value, value: f64) -> f64 {
    let whole = defaults(panel)["decimals"] == 0 && value.abs() < 1e3;
    if whole { value.round() } else { value }
}

fn unit(panel: &Value) -> &str {
    text(&defaults(panel)["unit"])
}

fn nothing(svg: &mut Svg, panel: &Value, (w, h): Size) {
    let words = defaults(panel)["noValue"].as_str().unwrap_or("No data");
    let (size, color) = if panel["type"] == "stat" { (28.0, "#73bf69") } else { (13.0, FAINT) };
    svg.words(w / 2.0, h / 2.0 + 12.0, size, color, "middle", words);
}

fn number(svg: &mut Svg, panel: &Value, answers: &[Answer], (w, h): Size) {
    let first = answers.iter().flat_map(|answer| answer.names.iter().zip(&answer.series)).next();
    let Some((name, series)) = first else { return };
    let value = series.points.last().map_or(f64::NAN, |(_, value)| *value);
    let words = if value.is_nan() {
        defaults(panel)["noValue"].as_str().unwrap_or("No data").to_owned()
    } else if panel["options"]["textMode"] == "name" {
        name.clone()
    } else {
        worded(panel, value)
    };
    svg.words(w / 2.0, h / 2.0 + 18.0, 28.0, color_of(panel, value), "middle", &words);
}

/// The colour of the last threshold that a value has reached.
fn color_of(panel: &Value, value: f64) -> &'static str {
    let steps = list(&defaults(panel)["thresholds"]["steps"]);
    let reached = steps.iter().rfind(|step| step["value"].as_f64().is_none_or(|at| value >= at));
    match reached.map(|step| text(&step["color"])) {
        Some("red") => "#f2495c",
        Some("yellow") => "#f2cc0c",
        _ => "#73bf69",
    }
}

/// Where times and values lie in a panel.
struct Axes {
    left: f64,
    top: f64,
    right: f64,
    bottom: f64,
    shown: Shown,
    low: f64,
    high: f64,
    logarithmic: bool,
}

impl Axes {
    fn x(&self, time: f64) -> f64 {
        let part = (time - self.shown.start) / (self.shown.end - self.shown.start).max(1.0);
        self.left + (self.right - self.left) * part
    }

    fn y(&self, value: f64) -> f64 {
        let part = if self.logarithmic {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        self.bottom - (self.bottom - self.top) * part.clamp(0.0, 1.0)
    }

    /// Where the axis is marked.
    fn marks(&self) -> Vec<f64> {
        if self.logarithmic {
            let (from, to) = (self.low.log10().ceil(), self.high.log10().floor());
            let decades = std::iter::successors(Some(from), |at| Some(at + 1.0));
            return decades.take_while(|at| *at <= to).map(|at| 10_f64.powf(at)).collect();
        }
        (0..=4_u8).map(|n| self.low + (self.high - self.low) * f64::from(n) / 4.0).collect()
    }

    fn draw(&self, svg: &mut Svg, unit: &str) {
        for value in self.marks() {
            let y = self.y(value);
            svg.rule(self.left, self.right, y);
            svg.words(self.left - 4.0, y + 3.0, 10.0, FAINT, "end", &in_unit(value, unit));
        }
        self.draw_time(svg);
    }

    fn draw_time(&self, svg: &mut Svg) {
        for n in 0..=4_u8 {
            let time = self.shown.start + (self.shown.end - self.shown.start) * f64::from(n) / 4.0;
            let before = format!("{:.0} s", time - self.shown.end);
            svg.words(self.x(time), self.bottom + 13.0, 10.0, FAINT, "middle", &before);
        }
    }
}

fn lines(svg: &mut Svg, panel: &Value, answers: &[Answer], shown: Shown, (w, h): Size) {
    let custom = &defaults(panel)["custom"];
    let stacked = custom["stacking"]["mode"] == "normal";
    let bars = custom["drawStyle"] == "bars";
    let all: Vec<_> =
        answers.iter().flat_map(|answer| answer.names.iter().zip(&answer.series)).collect();
    let listed = all.len().min(if h > 300.0 { 8 } else { 5 });
    let logarithmic = custom["scaleDistribution"]["type"] == "log";

    // Times as whole milliseconds, so that series can be added up.
    #[allow(clippy::cast_possible_truncation, reason = "milliseconds since 1970 fit")]
    let key = |time: f64| (time * 1000.0) as i64;
    let mut below: BTreeMap<i64, f64> = BTreeMap::new();
    let mut drawn = Vec::new();
    for (_, series) in &all {
        let mut points = Vec::new();
        for (time, value) in series.points.iter().filter(|(_, value)| value.is_finite()) {
            let base = if stacked { below.get(&key(*time)).copied().unwrap_or(0.0) } else { 0.0 };
            if stacked {
                below.insert(key(*time), base + value);
            }
            points.push((*time, base, base + value));
        }
        drawn.push(points);
    }
    let values = || drawn.iter().flatten().map(|(_, _, top)| *top);
    let high = values().fold(f64::MIN_POSITIVE, f64::max) * 1.05;
    let smallest = values().filter(|value| *value > 0.0).fold(high, f64::min);
    let axes = Axes {
        left: 62.0,
        top: 28.0,
        right: w - 14.0,
        bottom: h - 26.0 - 14.0 * f64::from(u8::try_from(listed).unwrap_or_default()),
        shown,
        low: if logarithmic { smallest / 1.5 } else { 0.0 },
        high: defaults(panel)["max"].as_f64().unwrap_or(if high > 1e-12 { high } else { 1.0 }),
        logarithmic,
    };
    axes.draw(svg, unit(panel));
    for (points, color) in drawn.iter().zip(COLORS.iter().cycle()) {
        if bars {
            for (time, base, top) in points.iter().filter(|(_, base, top)| top > base) {
                let (y, bottom) = (axes.y(*top), axes.y(*base));
                svg.rect((axes.x(*time) - 2.0, y), (4.0, bottom - y), color, 0.8);
            }
            continue;
        }
        let line: Vec<_> = points.iter().map(|(t, _, top)| (axes.x(*t), axes.y(*top))).collect();
        if stacked {
            let back = points.iter().rev().map(|(t, base, _)| (axes.x(*t), axes.y(*base)));
            let outline: Vec<_> = line.iter().copied().chain(back).collect();
            svg.area(&outline, color, 0.4);
        }
        svg.line(&line, color);
    }
    for (place, ((name, series), color)) in
        all.iter().zip(COLORS.iter().cycle()).take(listed).enumerate()
    {
        let y = axes.bottom + 28.0 + 14.0 * f64::from(u8::try_from(place).unwrap_or_default());
        svg.rect((axes.left, y - 5.0), (12.0, 3.0), color, 1.0);
        let hidden = all.len() - listed;
        let more = if place + 1 == listed && hidden > 0 {
            format!(" (and {hidden} more)")
        } else {
            String::new()
        };
        svg.text(axes.left + 18.0, y, 11.0, TEXT, &format!("{name}{more}"));
        let last = series.points.last().map_or(f64::NAN, |(_, value)| *value);
        svg.words(axes.right, y, 11.0, TEXT, "end", &worded(panel, last));
    }
}

fn heat(svg: &mut Svg, panel: &Value, answers: &[Answer], shown: Shown, (w, h): Size) {
    // Cumulative, by the upper end of each bucket.
    let mut buckets: Vec<(f64, &[(f64, f64)])> = answers
        .iter()
        .flat_map(|answer| &answer.series)
        .filter_map(|series| Some((series.label("le").parse().ok()?, series.points.as_slice())))
        .filter(|(end, _): &(f64, _)| end.is_finite())
        .collect();
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut cells = Vec::new();
    let mut below: BTreeMap<u64, f64> = BTreeMap::new();
    for (end, points) in &buckets {
        for (time, value) in *points {
            let before = below.insert(time.to_bits(), *value).unwrap_or(0.0);
            if value - before > 1e-9 {
                cells.push((*time, *end, value - before));
            }
        }
    }
    let most = cells.iter().map(|(_, _, count)| *count).fold(0.0, f64::max);
    if cells.is_empty() {
        return nothing(svg, panel, (w, h));
    }
    let low = cells.iter().map(|(_, end, _)| *end).fold(f64::MAX, f64::min) / 2.0;
    let high = cells.iter().map(|(_, end, _)| *end).fold(0.0, f64::max);
    let (left, right, top, bottom) = (62.0, w - 14.0, 28.0, h - 26.0);
    let axes = Axes { left, top, right, bottom, shown, low, high, logarithmic: true };
    let step = ((shown.end - shown.start) / 120.0).max(1.0);
    let width = axes.x(shown.start + step) - axes.left;
    cells.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.total_cmp(&b.0)));
    let same = |a: f64, b: f64| a.total_cmp(&b).is_eq();
    // Neighbours in one row and of one shade are one rectangle: pictures stay small.
    let mut runs: Vec<(f64, f64, f64, f64)> = Vec::new();
    for (time, end, count) in cells {
        let right = axes.x(time);
        let left = (right - width).max(axes.left);
        let shade = ((count / most).sqrt() * 12.0).ceil() / 12.0;
        match runs.last_mut() {
            Some(run) if same(run.0, end) && same(run.1, shade) && left - run.3 < 0.5 => {
                run.3 = right;
            }
            _ => runs.push((end, shade, left, right)),
        }
    }
    for (end, shade, left, right) in runs {
        let (y, bottom) = (axes.y(end), axes.y(end / 2.0));
        svg.rect((left, y), (right - left, bottom - y - 0.5), "#ff9830", shade);
    }
    axes.draw(svg, "s");
}

fn ranking(svg: &mut Svg, panel: &Value, answers: &[Answer], (w, h): Size) {
    let all = answers.iter().flat_map(|answer| answer.names.iter().zip(&answer.series));
    let mut all: Vec<_> = all
        .filter_map(|(name, series)| Some((name, series.points.last()?.1)))
        .filter(|(_, value)| value.is_finite())
        .collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1));
    let most = all.first().map_or(1.0, |(_, value)| value.max(1e-12));
    let mut y = 30.0;
    let height = ((h - 36.0) / f64::from(u8::try_from(all.len()).unwrap_or(1))).clamp(12.0, 30.0);
    // A letter of this size is some six pixels wide.
    let longest = all.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
    let names = (f64::from(u8::try_from(longest).unwrap_or(u8::MAX)) * 6.0).min(w * 0.6) + 8.0;
    for (name, value) in all {
        svg.words(names, y + height * 0.6, 11.0, TEXT, "end", name);
        let length = (w - names - 70.0) * value / most;
        svg.rect((names + 8.0, y + 1.0), (length.max(1.0), height - 3.0), "#ff9830", 0.75);
        svg.words(w - 10.0, y + height * 0.6, 11.0, TEXT, "end", &worded(panel, value));
        y += height;
    }
}

fn table(svg: &mut Svg, panel: &Value, answers: &[Answer], (w, h): Size) {
    let organize = &list(&panel["transformations"])
        .iter()
        .find(|transformation| transformation["id"] == "organize")
        .map_or(Value::Null, |organize| organize["options"].clone());
    let mut columns: Vec<String> = Vec::new();
    let mut rows: BTreeMap<Vec<(String, String)>, BTreeMap<String, String>> = BTreeMap::new();
    for answer in answers {
        let value_column = if answers.len() > 1 {
            format!("Value #{}", answer.letter)
        } else {
            "Value".to_owned()
        };
        for series in &answer.series {
            let mut row = BTreeMap::new();
            for (label, value) in
                series.labels.iter().chain([&(value_column.clone(), String::new())])
            {
                if !columns.contains(label) {
                    columns.push(label.clone());
                }
                row.insert(label.clone(), value.clone());
            }
            let value = series.points.last().map_or(f64::NAN, |(_, value)| *value);
            row.insert(value_column.clone(), mapped(panel, value));
            // Merged by the machine and the device, as the transformation merges.
            let shared: BTreeSet<_> = ["instance", "device"].into();
            let own = |(name, _): &&(String, String)| {
                answers.len() == 1 || shared.contains(&name.as_str())
            };
            let key = series.labels.iter().filter(own).cloned().collect();
            rows.entry(key).or_default().extend(row);
        }
    }
    columns.retain(|column| organize["excludeByName"][column] != true);
    columns.sort_by_key(|column| organize["indexByName"][column].as_u64().unwrap_or(u64::MAX));
    let width = (w - 16.0) / f64::from(u8::try_from(columns.len()).unwrap_or(1)).max(1.0);
    for (place, column) in (0_u8..).zip(&columns) {
        let x = 8.0 + width * f64::from(place);
        let heading = organize["renameByName"][column].as_str().unwrap_or(column);
        svg.text(x, 38.0, 11.0, "#6e9fff", heading);
        let mut y = 56.0;
        for row in rows.values() {
            if y > h - 8.0 {
                break;
            }
            svg.text(x, y, 11.0, TEXT, row.get(column).map_or("", String::as_str));
            y += 17.0;
        }
    }
}

/// A value by the words that the panel has for it.
fn mapped(panel: &Value, value: f64) -> String {
    let overrides = list(&panel["fieldConfig"]["overrides"]).iter();
    let own = overrides.flat_map(|one| list(&one["properties"]));
    let mappings = own
        .filter(|property| property["id"] == "mappings")
        .map(|property| &property["value"])
        .chain([&defaults(panel)["mappings"]]);
    let key = format!("{value}");
    let word = mappings
        .flat_map(list)
        .find_map(|mapping| mapping["options"][&key]["text"].as_str().map(str::to_owned));
    word.unwrap_or_else(|| in_unit(value, unit(panel)))
}

fn states(svg: &mut Svg, panel: &Value, answers: &[Answer], shown: Shown, (w, h): Size) {
    let all: Vec<_> =
        answers.iter().flat_map(|answer| answer.names.iter().zip(&answer.series)).collect();
    let (left, right, top, bottom) = (150.0, w - 14.0, 28.0, h - 26.0);
    let axes = Axes { left, top, right, bottom, shown, low: 0.0, high: 1.0, logarithmic: false };
    let height = (bottom - top) / f64::from(u8::try_from(all.len()).unwrap_or(1)).max(1.0);
    let step = ((shown.end - shown.start) / 120.0).max(1.0);
    let mut y = top;
    for (name, series) in all {
        svg.words(axes.left - 6.0, y + height * 0.6, 10.0, TEXT, "end", name);
        for (time, value) in &series.points {
            let color = if *value > 0.5 { "#73bf69" } else { "#ff9830" };
            let x = axes.x(*time);
            let width = axes.x(time + step).min(axes.right) - x;
            svg.rect((x, y + 1.0), (width.max(0.0), height - 2.0), color, 0.7);
        }
        let last = series.points.last().map_or(0.0, |(_, value)| *value);
        svg.text(axes.left + 4.0, y + height * 0.6, 10.0, TEXT, &mapped(panel, last));
        y += height;
    }
    axes.draw_time(svg);
}
