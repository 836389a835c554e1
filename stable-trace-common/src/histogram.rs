//! The histogram of stall durations: power-of-two buckets in microseconds, per CPU in the kernel.

use crate::backing::Backing;

/// Buckets with an upper bound: `le` = 1 µs · 2^i for i in 0..27, that is 1 µs to 67.1 s.
pub const BOUNDED_BUCKETS: usize = 27;

/// All buckets: the last one has no upper bound.
pub const BUCKETS: usize = BOUNDED_BUCKETS + 1;

/// The bucket of a duration. Upper bounds are inclusive: exactly 1 µs is in bucket 0, 1 µs and 1 ns
/// in bucket 1.
#[must_use]
#[inline]
pub const fn bucket(duration_ns: u64) -> usize {
    let microseconds = duration_ns.div_ceil(1_000);
    if microseconds <= 1 {
        return 0;
    }
    // ceil(log2(µs)). Binary search instead of `leading_zeros`, which compiles to a longer sequence
    // for the BPF target.
    let mut rest = microseconds - 1;
    let mut bits: usize = 0;
    let mut step: usize = 32;
    while step > 0 {
        if rest >> step != 0 {
            rest >>= step;
            bits += step;
        }
        step >>= 1;
    }
    let index = bits + 1;
    if index < BOUNDED_BUCKETS { index } else { BOUNDED_BUCKETS }
}

/// The inclusive upper bound of a bucket in ns; `None` for the last one.
#[must_use]
pub const fn upper_bound_ns(bucket: usize) -> Option<u64> {
    if bucket < BOUNDED_BUCKETS { Some(1_000 << bucket) } else { None }
}

/// Key of the map `HISTOGRAMS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HistogramKey {
    /// The file system or device that the folios belong to.
    pub backing: Backing,
    /// Id of the stack of the waits. The agent derives the context from it.
    pub stack: u64,
}

impl HistogramKey {
    /// The histogram of all stalls that have no histogram of their own because the map is full. The
    /// agent creates it before it attaches the programs.
    pub const OVERFLOW: Self = Self { backing: Backing::NONE, stack: 0 };
}

/// A histogram: in the kernel that of one CPU, in the agent the sum over the CPUs.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Histogram {
    /// Stalls in each bucket, not cumulative.
    pub buckets: [u64; BUCKETS],
    /// Sum of the durations in ns.
    pub sum_ns: u64,
    /// The longest duration in ns.
    pub max_ns: u64,
}

impl Histogram {
    /// No stalls.
    pub const EMPTY: Self = Self { buckets: [0; BUCKETS], sum_ns: 0, max_ns: 0 };

    /// Counts one stall.
    #[inline]
    pub fn record(&mut self, duration_ns: u64) {
        let index = bucket(duration_ns);
        // `get_mut`: indexing can panic, and the verifier refuses a program that contains a panic.
        if let Some(count) = self.buckets.get_mut(index) {
            *count += 1;
        }
        self.sum_ns = self.sum_ns.wrapping_add(duration_ns);
        if duration_ns > self.max_ns {
            self.max_ns = duration_ns;
        }
    }

    /// Adds the counts of `other`.
    pub fn merge(&mut self, other: &Self) {
        let Self { buckets, sum_ns, max_ns } = other;
        for (sum, count) in self.buckets.iter_mut().zip(buckets) {
            *sum += count;
        }
        self.sum_ns = self.sum_ns.wrapping_add(*sum_ns);
        self.max_ns = self.max_ns.max(*max_ns);
    }

    /// What `self` counts beyond `earlier`, an earlier state of the same histogram. `max_ns` is
    /// exact if it has grown; otherwise it is the upper bound of the highest bucket that has grown.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut more = *self;
        for (count, earlier) in more.buckets.iter_mut().zip(&earlier.buckets) {
            *count = count.saturating_sub(*earlier);
        }
        more.sum_ns = self.sum_ns.saturating_sub(earlier.sum_ns);
        if self.max_ns <= earlier.max_ns {
            let highest = more.buckets.iter().rposition(|count| *count > 0);
            let bound = highest.map_or(0, |bucket| upper_bound_ns(bucket).unwrap_or(u64::MAX));
            more.max_ns = bound.min(self.max_ns);
        }
        more
    }

    /// Number of stalls.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

/// Counts each duration, in ns.
impl FromIterator<u64> for Histogram {
    fn from_iter<I: IntoIterator<Item = u64>>(durations: I) -> Self {
        let mut histogram = Self::EMPTY;
        durations.into_iter().for_each(|duration_ns| histogram.record(duration_ns));
        histogram
    }
}

const _: () = assert!(size_of::<HistogramKey>() == size_of::<Backing>() + 8);
const _: () = assert!(size_of::<Histogram>() == 8 * (BUCKETS + 2));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_upper_bound_is_inclusive() {
        for index in 0..BOUNDED_BUCKETS {
            let bound = upper_bound_ns(index).unwrap();
            assert_eq!(bucket(bound), index, "at {bound} ns");
            assert_eq!(bucket(bound + 1), index + 1, "just above {bound} ns");
            assert_eq!(bucket(bound - 1), index, "just below {bound} ns");
        }
        assert_eq!(upper_bound_ns(BOUNDED_BUCKETS), None);
    }

    #[test]
    fn the_shortest_and_the_longest_duration_have_a_bucket() {
        assert_eq!(bucket(0), 0);
        assert_eq!(bucket(u64::MAX), BOUNDED_BUCKETS);
        assert_eq!(upper_bound_ns(0), Some(1_000));
        assert_eq!(upper_bound_ns(26), Some(67_108_864_000));
    }

    fn of<const N: usize>(durations: [u64; N]) -> Histogram {
        durations.into_iter().collect()
    }

    #[test]
    fn histograms_of_two_cpus_add_up() {
        let mut sum = of([2_000]);
        sum.merge(&of([1_000, 5_000]));
        assert_eq!((sum.count(), sum.sum_ns, sum.max_ns), (3, 8_000, 5_000));
        assert_eq!((sum.buckets[0], sum.buckets[1], sum.buckets[3]), (1, 1, 1));
    }

    #[test]
    fn the_difference_is_what_was_recorded_later() {
        let (earlier, now) = (of([5_000, 70_000]), of([5_000, 70_000, 6_000, 900_000]));
        assert_eq!(now.since(&earlier), of([6_000, 900_000]));
        assert_eq!(now.since(&Histogram::EMPTY), now);
        assert_eq!(now.since(&now), Histogram::EMPTY);
    }

    #[test]
    fn the_maximum_of_a_difference_is_bounded_by_its_bucket() {
        let more = of([900_000, 5_000]).since(&of([900_000]));
        assert_eq!((more.count(), more.sum_ns, more.max_ns), (1, 5_000, 8_000));
    }
}
