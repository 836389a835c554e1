//! A histogram of durations with eight buckets for each factor of two, fine enough for medians.

use crate::event::Latency;

/// Durations below 2^10 ns share one bucket.
const SMALLEST_BITS: u32 = 10;

/// Bits of a duration that select a bucket within a factor of two.
const FINE_BITS: u32 = 3;

/// Number of buckets: one below 1,024 ns, eight for each factor of two up to 2^36 ns (69 s), and one
/// for longer durations.
pub(super) const BUCKETS: usize = ((36 - SMALLEST_BITS as usize) << FINE_BITS) + 2;

pub(super) const fn bucket(duration_ns: u64) -> usize {
    let Some(bits) = duration_ns.checked_ilog2() else { return 0 };
    if bits < SMALLEST_BITS {
        return 0;
    }
    let fine = (duration_ns >> (bits - FINE_BITS)) & ((1 << FINE_BITS) - 1);
    let index = (((bits - SMALLEST_BITS) as usize) << FINE_BITS) + fine as usize + 1;
    if index < BUCKETS - 1 { index } else { BUCKETS - 1 }
}

const fn lower_bound_ns(bucket: usize) -> u64 {
    if bucket == 0 {
        return 0;
    }
    let (octave, fine) = ((bucket - 1) >> FINE_BITS, (bucket - 1) & ((1 << FINE_BITS) - 1));
    ((1 << FINE_BITS) + fine as u64) << octave << (SMALLEST_BITS - FINE_BITS)
}

/// The number of durations in each bucket.
#[derive(Clone, Debug)]
pub(super) struct Durations {
    counts: Box<[u64; BUCKETS]>,
    max_ns: u64,
}

impl Default for Durations {
    fn default() -> Self {
        Self { counts: Box::new([0; BUCKETS]), max_ns: 0 }
    }
}

impl Durations {
    /// Adds durations of one bucket. `max_ns` is the longest of them.
    pub(super) fn add(&mut self, bucket: usize, count: u64, max_ns: u64) {
        if let Some(sum) = self.counts.get_mut(bucket) {
            *sum += count;
        }
        self.max_ns = self.max_ns.max(max_ns);
    }

    pub(super) fn counts(&self) -> &[u64] {
        &*self.counts
    }

    pub(super) fn latency(&self) -> Latency {
        let stalls = self.counts.iter().sum();
        Latency {
            stalls,
            p50_ns: self.quantile_ns(stalls, 50),
            p99_ns: self.quantile_ns(stalls, 99),
        }
    }

    /// A percentile, interpolated linearly within its bucket.
    fn quantile_ns(&self, total: u64, percent: u64) -> u64 {
        let rank = (u128::from(total) * u128::from(percent)).div_ceil(100);
        let mut below = 0_u128;
        for (index, count) in self.counts.iter().enumerate() {
            let count = u128::from(*count);
            if count > 0 && below + count >= rank {
                let lower = lower_bound_ns(index);
                let upper = if index + 1 < BUCKETS { lower_bound_ns(index + 1) } else { u64::MAX };
                let width = upper.min(self.max_ns).saturating_sub(lower);
                let within = u128::from(width) * rank.saturating_sub(below) / count;
                return lower.saturating_add(u64::try_from(within).unwrap_or(width));
            }
            below += count;
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_extreme_durations_have_a_bucket() {
        assert_eq!((bucket(0), bucket(1_023), bucket(1_024)), (0, 0, 1));
        assert_eq!(bucket((1 << 36) - 1), BUCKETS - 2);
        assert_eq!((bucket(1 << 36), bucket(u64::MAX)), (BUCKETS - 1, BUCKETS - 1));
        assert_eq!(Durations::default().latency(), Latency::default());
    }

    #[test]
    fn every_lower_bound_is_inclusive() {
        for index in 1..BUCKETS {
            let bound = lower_bound_ns(index);
            assert_eq!((bucket(bound - 1), bucket(bound)), (index - 1, index), "{bound}");
        }
    }

    proptest! {
        /// Compares with the exact percentile of the same durations.
        #[test]
        fn a_percentile_is_exact_to_an_eighth(
            mut durations in proptest::collection::vec(1_024_u64..60_000_000_000, 1..300),
        ) {
            let mut counted = Durations::default();
            for duration in &durations {
                counted.add(bucket(*duration), 1, *duration);
            }
            durations.sort_unstable();
            let latency = counted.latency();
            for (found, percent) in [(latency.p50_ns, 50), (latency.p99_ns, 99)] {
                let exact = durations[(durations.len() * percent).div_ceil(100) - 1];
                prop_assert!(found.abs_diff(exact) <= exact / 8 + 1, "{} for {}", found, exact);
            }
            prop_assert!(latency.p50_ns <= latency.p99_ns);
        }
    }
}
