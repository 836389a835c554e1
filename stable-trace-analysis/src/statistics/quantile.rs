//! Quantiles of a histogram with power-of-two buckets.

use stable_trace_common::histogram::{BUCKETS, upper_bound_ns};

/// The `part`-quantile (0 to 1) in ns, interpolated linearly within its bucket like Prometheus'
/// `histogram_quantile`, but at most `max_ns`. 0 for an empty histogram.
///
/// A bucket spans a factor of two, so the error is at most a factor of two.
pub fn quantile_ns(buckets: &[u64; BUCKETS], max_ns: u64, part: f64) -> u64 {
    let total: u64 = buckets.iter().sum();
    if total == 0 {
        return 0;
    }
    #[expect(clippy::cast_precision_loss, reason = "a rank needs no more than 53 bits")]
    let rank = part.clamp(0.0, 1.0) * total as f64;
    let mut below = 0_u64;
    for (index, &count) in buckets.iter().enumerate() {
        #[expect(clippy::cast_precision_loss, reason = "a rank needs no more than 53 bits")]
        let (from, to) = (below as f64, (below + count) as f64);
        if count > 0 && to >= rank {
            let Some(upper) = upper_bound_ns(index) else {
                return max_ns;
            };
            let lower = if index == 0 { 0 } else { upper / 2 };
            #[expect(clippy::cast_precision_loss, reason = "durations are far below 2^53 ns")]
            let width = (upper.min(max_ns).max(lower) - lower) as f64;
            let within = width * ((rank - from) / (to - from));
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "between 0 and the width of a bucket"
            )]
            let within = within.clamp(0.0, width) as u64;
            return lower + within;
        }
        below += count;
    }
    max_ns
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use stable_trace_common::histogram::bucket;

    use super::*;

    fn histogram(durations: &[u64]) -> ([u64; BUCKETS], u64) {
        let mut buckets = [0; BUCKETS];
        for &duration in durations {
            buckets[bucket(duration)] += 1;
        }
        (buckets, durations.iter().copied().max().unwrap_or(0))
    }

    #[test]
    fn an_empty_histogram_has_the_quantile_zero() {
        assert_eq!(quantile_ns(&[0; BUCKETS], 0, 0.99), 0);
    }

    #[test]
    fn the_last_quantile_is_the_maximum() {
        let (buckets, max) = histogram(&[5_000, 7_000_000, 3_000_000]);
        assert_eq!(quantile_ns(&buckets, max, 1.0), 7_000_000);
        let (buckets, max) = histogram(&[90_000_000_000]);
        assert_eq!(quantile_ns(&buckets, max, 0.5), 90_000_000_000);
    }

    proptest! {
        /// Compares with the exact quantile of the same durations: at most one bucket below it.
        #[test]
        fn a_quantile_is_near_the_exact_one(
            mut durations in proptest::collection::vec(1_u64..60_000_000_000, 1..200),
            percent in 1_u32..=100,
        ) {
            let part = f64::from(percent) / 100.0;
            let (buckets, max) = histogram(&durations);
            let found = quantile_ns(&buckets, max, part);
            durations.sort_unstable();
            let rank = (durations.len() * percent as usize).div_ceil(100).max(1);
            let exact = durations[rank - 1];
            prop_assert!(found <= max);
            prop_assert!(bucket(found) <= bucket(exact), "{} for {}", found, exact);
            prop_assert!(bucket(found) + 1 >= bucket(exact), "{} for {}", found, exact);
        }

        #[test]
        fn a_higher_part_is_never_shorter(
            durations in proptest::collection::vec(1_u64..60_000_000_000, 1..200),
        ) {
            let (buckets, max) = histogram(&durations);
            let [p50, p90, p99] = [0.5, 0.9, 0.99].map(|part| quantile_ns(&buckets, max, part));
            prop_assert!(p50 <= p90 && p90 <= p99 && p99 <= max);
        }
    }
}
