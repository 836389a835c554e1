//! Numbers as Prometheus writes them.

/// From here on whole numbers of a double have gaps.
const WHOLE: f64 = 9_007_199_254_740_992.0;

/// A bound of a bucket, in Go's shortest form (`strconv.FormatFloat(f, 'g', -1, 64)`): `0.000128`,
/// `6.4e-05`, `1e+06`, `+Inf`. It is a label's value, so it must always read the same, and this is the
/// form that Prometheus's own clients write and OpenMetrics asks for.
#[must_use]
pub fn float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    // Rust's shortest digits with an exponent: `-1.234e-5`.
    let text = format!("{value:e}");
    let Some((mantissa, exponent)) = text.split_once('e') else { return text };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&exponent) {
        return format!("{value}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

/// A sample's value: whole numbers in all their digits, so that a person can read a count, and else
/// as [`float`].
#[must_use]
pub fn value(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < WHOLE { format!("{value}") } else { float(value) }
}

/// Nanoseconds as seconds.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "Prometheus's values are doubles")]
pub fn seconds(ns: u64) -> f64 {
    // One division, so that the nearest double to the exact decimal comes out.
    ns as f64 / 1e9
}

/// A count as a double.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "Prometheus's values are doubles")]
pub fn count(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Go's `strconv.FormatFloat(f, 'g', -1, 64)` makes of them.
    #[test]
    fn go_writes_them_so() {
        for (number, text) in [
            (0.0, "0"),
            (1e-6, "1e-06"),
            (1.6e-5, "1.6e-05"),
            (0.000_1, "0.0001"),
            (0.000_128, "0.000128"),
            (1.048_576, "1.048576"),
            (67.108_864, "67.108864"),
            (100_000.0, "100000"),
            (1_000_000.0, "1e+06"),
            (1_234_567.0, "1.234567e+06"),
            (-2.5e-7, "-2.5e-07"),
            (1e100, "1e+100"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(float(number), text);
        }
        assert_eq!(float(f64::NAN), "NaN");
    }

    #[test]
    fn counts_keep_their_digits() {
        assert_eq!(value(1_234_567.0), "1234567");
        assert_eq!(value(0.000_000_25), "2.5e-07");
        assert_eq!(value(1e300), "1e+300");
        assert_eq!(value(count(u64::MAX)), "1.8446744073709552e+19");
    }

    #[test]
    fn a_microsecond_is_the_double_that_one_writes() {
        for (ns, text) in [(1_000, "1e-06"), (1_024_000, "0.001024"), (67_108_864_000, "67.108864")]
        {
            assert_eq!(float(seconds(ns)), text);
        }
    }
}
