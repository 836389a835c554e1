//! Statistics of a few measured values.

use std::fmt::Write as _;

/// Measured values in ascending order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Numbers(Vec<f64>);

impl Numbers {
    pub(crate) fn new(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<_> = values.into_iter().collect();
        values.sort_unstable_by(f64::total_cmp);
        Self(values)
    }

    /// The median; NaN if there are no values.
    pub(crate) fn median(&self) -> f64 {
        let Self(values) = self;
        let half = values.len() / 2;
        match values.as_slice() {
            [] => f64::NAN,
            values if values.len() % 2 == 1 => values[half],
            values => f64::midpoint(values[half - 1], values[half]),
        }
    }

    /// The 90th percentile by nearest rank.
    pub(crate) fn p90(&self) -> f64 {
        let Self(values) = self;
        let rank = (values.len() * 9).div_ceil(10);
        values.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
    }

    /// Minimum and maximum.
    pub(crate) fn spread(&self) -> (f64, f64) {
        let at = |value: Option<&f64>| value.copied().unwrap_or(f64::NAN);
        (at(self.0.first()), at(self.0.last()))
    }

    /// `median (minimum to maximum)` with this number of decimals.
    pub(crate) fn text(&self, decimals: usize) -> String {
        let (minimum, maximum) = self.spread();
        format!(
            "{} ({} to {})",
            number(self.median(), decimals),
            number(minimum, decimals),
            number(maximum, decimals)
        )
    }
}

/// A number with thousands separators: `34,500`, `0.82`.
pub(crate) fn number(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    let (sign, rest) = text.strip_prefix('-').map_or(("", text.as_str()), |rest| ("-", rest));
    let (whole, fraction) = rest.split_once('.').map_or((rest, None), |(w, f)| (w, Some(f)));
    let mut grouped = String::from(sign);
    for (index, digit) in whole.char_indices() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if let Some(fraction) = fraction {
        // Writing to a `String` cannot fail.
        let _ = write!(grouped, ".{fraction}");
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::float_cmp, reason = "these are exact")]
    fn median_percentile_and_spread() {
        let numbers = Numbers::new([3.0, 1.0, 2.0]);
        assert_eq!((numbers.median(), numbers.p90(), numbers.spread()), (2.0, 3.0, (1.0, 3.0)));
        assert_eq!(Numbers::new([1.0, 4.0]).median(), 2.5);
        let ten = Numbers::new((1..=10).map(f64::from));
        assert_eq!((ten.median(), ten.p90()), (5.5, 9.0));
        assert!(Numbers::new([]).median().is_nan());
    }

    #[test]
    fn numbers_are_readable() {
        assert_eq!(number(34_567.4, 0), "34,567");
        assert_eq!(number(-1_234_567.0, 1), "-1,234,567.0");
        assert_eq!(number(0.815, 2), "0.81");
        assert_eq!(number(999.0, 0), "999");
        assert_eq!(Numbers::new([1.0, 3.0, 2.0]).text(0), "2 (1 to 3)");
    }
}
