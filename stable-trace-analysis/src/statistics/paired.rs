//! The ratio of two arms that were measured in pairs, with its confidence interval.
//!
//! The ratio is the geometric mean of the ratios of the pairs. Its confidence interval is that of
//! Student's t distribution on the logarithms of these ratios. An effect on both runs of a pair,
//! such as a slower machine, cancels.

/// The ratio of two arms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    /// Geometric mean of the ratios of the pairs.
    pub mean: f64,
    /// Bounds of the 95 % confidence interval; `None` with fewer than two pairs.
    pub ci95: Option<(f64, f64)>,
}

/// The ratio of the first to the second value over all pairs. `None` without pairs, or if a value is
/// not a positive number.
pub fn ratio(pairs: &[(f64, f64)]) -> Option<Ratio> {
    let log = |(first, second): &(f64, f64)| Some(positive(*first)?.ln() - positive(*second)?.ln());
    let logs: Vec<f64> = pairs.iter().map(log).collect::<Option<_>>()?;
    let mean = mean(&logs)?;
    let ci95 = half_width(&logs, mean).map(|half| ((mean - half).exp(), (mean + half).exp()));
    Some(Ratio { mean: mean.exp(), ci95 })
}

/// The geometric mean; `None` without values, or if a value is not a positive number.
pub fn geometric_mean(values: &[f64]) -> Option<f64> {
    let logs: Vec<f64> =
        values.iter().map(|value| positive(*value).map(f64::ln)).collect::<Option<_>>()?;
    mean(&logs).map(f64::exp)
}

fn positive(value: f64) -> Option<f64> {
    (value.is_finite() && value > 0.0).then_some(value)
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / count(values))
}

/// Half the width of the 95 % confidence interval of a mean.
fn half_width(values: &[f64], mean: f64) -> Option<f64> {
    let freedom = values.len().checked_sub(1).filter(|freedom| *freedom > 0)?;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    #[expect(clippy::cast_precision_loss, reason = "the number of pairs is small")]
    let variance = squares / freedom as f64;
    Some(student_t(freedom) * (variance / count(values)).sqrt())
}

fn count(values: &[f64]) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "the number of pairs is small")]
    let count = values.len() as f64;
    count
}

/// Student's t for a two-sided 95 %, for 1 to 30 degrees of freedom, from statistical tables.
const T: [f64; 30] = [
    12.706_205, 4.302_653, 3.182_446, 2.776_445, 2.570_582, 2.446_912, 2.364_624, 2.306_004,
    2.262_157, 2.228_139, 2.200_985, 2.178_813, 2.160_369, 2.144_787, 2.131_450, 2.119_905,
    2.109_816, 2.100_922, 2.093_024, 2.085_963, 2.079_614, 2.073_873, 2.068_658, 2.063_899,
    2.059_539, 2.055_529, 2.051_831, 2.048_407, 2.045_230, 2.042_272,
];

/// The limit of Student's t for many degrees of freedom: the normal quantile.
const Z: f64 = 1.959_963_985;

/// Student's t for a two-sided 95 %. `freedom` is at least 1.
fn student_t(freedom: usize) -> f64 {
    if let Some(t) = freedom.checked_sub(1).and_then(|index| T.get(index)) {
        return *t;
    }
    // Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.5; correct to six digits here.
    #[expect(clippy::cast_precision_loss, reason = "the number of pairs is small")]
    let freedom = freedom.max(1) as f64;
    let first = (Z.powi(3) + Z) / 4.0;
    let second = (5.0 * Z.powi(5) + 16.0 * Z.powi(3) + 3.0 * Z) / 96.0;
    let third = (3.0 * Z.powi(7) + 19.0 * Z.powi(5) + 17.0 * Z.powi(3) - 15.0 * Z) / 384.0;
    Z + first / freedom + second / freedom.powi(2) + third / freedom.powi(3)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn near(found: f64, expected: f64, within: f64) {
        assert!((found - expected).abs() <= within, "{found} is not {expected}");
    }

    /// NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.6.7.2, column 0.975.
    #[test]
    fn t_matches_the_published_tables() {
        for (freedom, t) in [
            (1, 12.706),
            (2, 4.303),
            (3, 3.182),
            (4, 2.776),
            (5, 2.571),
            (9, 2.262),
            (10, 2.228),
            (20, 2.086),
            (30, 2.042),
            (31, 2.040),
            (40, 2.021),
            (60, 2.000),
            (80, 1.990),
            (100, 1.984),
        ] {
            near(student_t(freedom), t, 0.000_51);
        }
        near(student_t(1_000_000), 1.960, 0.000_1);
    }

    /// Computed by hand: the logarithms of the ratios 0.8, 0.9 and 1.0 have the mean -0.109501 and
    /// the standard deviation 0.111629, so half the interval is 4.302653 · 0.111629 / √3 = 0.277303.
    #[test]
    fn three_pairs_match_a_computation_by_hand() {
        let ratio = ratio(&[(80.0, 100.0), (180.0, 200.0), (50.0, 50.0)]).unwrap();
        near(ratio.mean, 0.896_281, 1e-5);
        let (low, high) = ratio.ci95.unwrap();
        near(low, 0.679_224, 1e-5);
        near(high, 1.182_702, 1e-5);
    }

    #[test]
    fn too_few_pairs_have_no_interval() {
        assert_eq!(ratio(&[]), None);
        assert_eq!(ratio(&[(1.0, 2.0)]), Some(Ratio { mean: 0.5, ci95: None }));
        assert_eq!(ratio(&[(0.0, 2.0), (1.0, 1.0)]), None);
        assert_eq!(ratio(&[(1.0, f64::NAN)]), None);
        assert_eq!(geometric_mean(&[]), None);
        near(geometric_mean(&[1.0, 100.0]).unwrap(), 10.0, 1e-9);
    }

    proptest! {
        /// A factor common to both runs of a pair has no effect.
        #[test]
        fn a_common_factor_cancels(
            pairs in prop::collection::vec((1.0..1e6_f64, 1.0..1e6_f64, 0.1..10.0_f64), 2..20),
        ) {
            let plain: Vec<_> = pairs.iter().map(|(on, off, _)| (*on, *off)).collect();
            let drifting: Vec<_> = pairs.iter().map(|(on, off, by)| (on * by, off * by)).collect();
            let (plain, drifting) = (ratio(&plain).unwrap(), ratio(&drifting).unwrap());
            prop_assert!((plain.mean / drifting.mean - 1.0).abs() < 1e-9);
            let (low, high) = plain.ci95.unwrap();
            prop_assert!(low <= plain.mean && plain.mean <= high);
        }

        /// Exchanging the arms inverts the ratio and its interval.
        #[test]
        fn exchanged_arms_invert_the_ratio(
            pairs in prop::collection::vec((1.0..1e6_f64, 1.0..1e6_f64), 2..20),
        ) {
            let exchanged: Vec<_> = pairs.iter().map(|(on, off)| (*off, *on)).collect();
            let (one, other) = (ratio(&pairs).unwrap(), ratio(&exchanged).unwrap());
            prop_assert!((one.mean * other.mean - 1.0).abs() < 1e-9);
            let ((low, _), (_, high)) = (one.ci95.unwrap(), other.ci95.unwrap());
            prop_assert!((low * high - 1.0).abs() < 1e-6);
        }
    }
}
