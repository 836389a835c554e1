//! Formats numbers as Prometheus does.

/// 2^53: not all larger integers are exact in a double.
const EXACT_INTEGERS: f64 = 9_007_199_254_740_992.0;

/// Formats a bucket bound like Go's `strconv.FormatFloat(f, 'g', -1, 64)`: `0.000128`, `6.4e-05`,
/// `1e+06`, `+Inf`. The bound is a label value, so its text must be stable; Prometheus's own clients
/// write this form, and OpenMetrics requires it.
pub(super) fn float(value: f64) -> String {
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

/// Formats a sample value: integers with all digits, for readable counts, and others as [`float`].
pub(super) fn value(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < EXACT_INTEGERS {
        format!("{value}")
    } else {
        float(value)
    }
}

/// Nanoseconds as seconds.
#[expect(clippy::cast_precision_loss, reason = "Prometheus's values are doubles")]
pub(super) fn seconds(ns: u64) -> f64 {
    // A single division gives the double nearest to the exact decimal.
    ns as f64 / 1e9
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus's values are doubles")]
pub(super) fn count(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compared with the output of Go's `strconv.FormatFloat(f, 'g', -1, 64)`.
    #[test]
    fn floats_are_formatted_as_by_go() {
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
    fn seconds_are_the_nearest_double() {
        for (ns, text) in [(1_000, "1e-06"), (1_024_000, "0.001024"), (67_108_864_000, "67.108864")]
        {
            assert_eq!(float(seconds(ns)), text);
        }
    }
}
