//! What happened when, in a number of bins that does not depend on how long it took.

use stable_trace_common::histogram::{BUCKETS, bucket};

/// The most bins. A multiple of what pictures have, so that theirs are whole sums.
const BINS: usize = 480;

/// The width that bins begin with, in ns.
const NARROWEST_NS: u64 = 1_000_000;

/// What happened within a span of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bin {
    /// Stalls that ended, by the bucket of their length.
    pub stalls: [u64; BUCKETS],
    /// Checks that failed.
    pub errors: u64,
    /// Pages that changed under writeback.
    pub unstable: u64,
    /// Lines that were lost.
    pub lost: u64,
}

impl Bin {
    fn merge(&mut self, other: &Self) {
        let Self { stalls, errors, unstable, lost } = other;
        for (sum, count) in self.stalls.iter_mut().zip(stalls) {
            *sum += count;
        }
        self.errors += errors;
        self.unstable += unstable;
        self.lost += lost;
    }
}

/// Bins from the first event on. When they no longer reach, each two become one.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    origin_ns: Option<u64>,
    width_ns: u64,
    bins: Vec<Bin>,
    /// What there is no bin for: nothing, but indexing must not panic.
    outside: Bin,
}

impl Timeline {
    /// The bin of a time in ns; the first one for what was before the first event.
    pub fn at(&mut self, time_ns: u64) -> &mut Bin {
        if self.width_ns == 0 {
            self.width_ns = NARROWEST_NS;
            self.bins = vec![Bin::default(); BINS];
        }
        let since = time_ns.saturating_sub(*self.origin_ns.get_or_insert(time_ns));
        while self.index(since) >= BINS {
            self.widen();
        }
        let index = self.index(since);
        self.bins.get_mut(index).unwrap_or(&mut self.outside)
    }

    fn index(&self, since: u64) -> usize {
        usize::try_from(since / self.width_ns.max(1)).unwrap_or(usize::MAX)
    }

    fn widen(&mut self) {
        self.width_ns = self.width_ns.saturating_mul(2);
        for index in 0..BINS {
            let mut sum = Bin::default();
            for part in self.bins.iter().skip(2 * index).take(2) {
                sum.merge(part);
            }
            if let Some(bin) = self.bins.get_mut(index) {
                *bin = sum;
            }
        }
    }

    /// Counts a stall.
    pub fn stall(&mut self, time_ns: u64, duration_ns: u64) {
        if let Some(count) = self.at(time_ns).stalls.get_mut(bucket(duration_ns)) {
            *count += 1;
        }
    }

    /// The time of the first bin in ns.
    #[must_use]
    pub fn origin_ns(&self) -> u64 {
        self.origin_ns.unwrap_or(0)
    }

    /// What happened from the first bin to a time, in at most so many bins, and how wide they are
    /// in ns.
    #[must_use]
    pub fn bins(&self, most: usize, until_ns: u64) -> (u64, Vec<Bin>) {
        let since = until_ns.saturating_sub(self.origin_ns());
        let filled = self.bins.iter().rposition(|bin| *bin != Bin::default()).unwrap_or(0);
        let used = (self.index(since).max(filled) + 1).min(BINS);
        let merged = used.div_ceil(most.max(1));
        let mut bins: Vec<Bin> = Vec::new();
        for part in self.bins.iter().take(used).collect::<Vec<_>>().chunks(merged) {
            let mut sum = Bin::default();
            for bin in part {
                sum.merge(bin);
            }
            bins.push(sum);
        }
        (self.width_ns.max(1).saturating_mul(merged as u64), bins)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stalls(bins: &[Bin]) -> u64 {
        bins.iter().flat_map(|bin| bin.stalls).sum()
    }

    #[test]
    fn a_minute_later_the_bins_are_wider() {
        let mut heat = Timeline::default();
        heat.stall(5_000_000_000, 1_000_000);
        heat.stall(5_100_000_000, 1_000_000);
        heat.stall(65_000_000_000, 90_000_000);
        heat.at(65_000_000_000).errors += 2;
        let (width, bins) = heat.bins(120, 65_000_000_000);
        assert_eq!(stalls(&bins), 3);
        assert_eq!(stalls(&bins[..1]), 2);
        assert!(bins.len() <= 120 && width * bins.len() as u64 >= 60_000_000_000);
        let last = bins.last().unwrap();
        assert_eq!((last.errors, last.stalls[bucket(90_000_000)]), (2, 1));
    }

    proptest! {
        #[test]
        fn nothing_is_lost_whatever_the_times(times in proptest::collection::vec(any::<u64>(), 1..60)) {
            let mut heat = Timeline::default();
            for &time in &times {
                heat.stall(time, time);
            }
            let until = times.iter().copied().max().unwrap_or(0);
            for most in [1, 40, 120, 1000] {
                let (_, bins) = heat.bins(most, until);
                prop_assert!(bins.len() <= most);
                prop_assert_eq!(stalls(&bins), times.len() as u64);
            }
        }
    }
}
