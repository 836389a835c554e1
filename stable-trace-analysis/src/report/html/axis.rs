//! An axis whose labels stand where we say.

use std::ops::Range;

use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};

/// From one number to another, with these ticks.
#[derive(Clone, Debug)]
pub struct Axis {
    range: Range<f64>,
    ticks: Vec<f64>,
}

impl Axis {
    /// A range with ticks.
    pub const fn new(range: Range<f64>, ticks: Vec<f64>) -> Self {
        Self { range, ticks }
    }
}

impl Ranged for Axis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        let length = (self.range.end - self.range.start).max(f64::MIN_POSITIVE);
        let part = ((value - self.range.start) / length).clamp(-1.0, 2.0);
        #[expect(clippy::cast_possible_truncation, reason = "at most twice a picture's width")]
        let offset = (part * f64::from(to - from)).round() as i32;
        from + offset
    }

    fn key_points<H: KeyPointHint>(&self, _hint: H) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}
