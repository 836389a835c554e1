//! The coordinate system of a panel with a time axis.

use super::TimeRange;
use super::canvas::{Anchor, Canvas, SECONDARY_TEXT_COLOR};
use super::unit::format_value;

pub(super) struct Axes {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) right: f64,
    pub(super) bottom: f64,
    pub(super) time_range: TimeRange,
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) log_scale: bool,
}

impl Axes {
    pub(super) fn x(&self, time: f64) -> f64 {
        let range = self.time_range;
        let fraction = (time - range.start) / (range.end - range.start).max(1.0);
        self.left + (self.right - self.left) * fraction
    }

    pub(super) fn y(&self, value: f64) -> f64 {
        let fraction = if self.log_scale {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        self.bottom - (self.bottom - self.top) * fraction.clamp(0.0, 1.0)
    }

    fn value_ticks(&self) -> Vec<f64> {
        if self.log_scale {
            let (first, last) = (self.low.log10().ceil(), self.high.log10().floor());
            let exponents = std::iter::successors(Some(first), |exponent| Some(exponent + 1.0));
            return exponents
                .take_while(|exponent| *exponent <= last)
                .map(|exponent| 10_f64.powf(exponent))
                .collect();
        }
        (0..=4_u8).map(|n| self.low + (self.high - self.low) * f64::from(n) / 4.0).collect()
    }

    pub(super) fn draw(&self, canvas: &mut Canvas, unit: &str) {
        for value in self.value_ticks() {
            let y = self.y(value);
            canvas.grid_line(self.left, self.right, y);
            let at = (self.left - 4.0, y + 3.0);
            let label = format_value(value, unit);
            canvas.text(at, 10.0, SECONDARY_TEXT_COLOR, Anchor::End, &label);
        }
        self.draw_time_labels(canvas);
    }

    pub(super) fn draw_time_labels(&self, canvas: &mut Canvas) {
        let range = self.time_range;
        for n in 0..=4_u8 {
            let time = range.start + (range.end - range.start) * f64::from(n) / 4.0;
            let label = format!("{:.0} s", time - range.end);
            let at = (self.x(time), self.bottom + 13.0);
            canvas.text(at, 10.0, SECONDARY_TEXT_COLOR, Anchor::Middle, &label);
        }
    }
}
