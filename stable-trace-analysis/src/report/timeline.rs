//! Counts events over time, in a bounded number of bins.

use stable_trace_common::histogram::{BUCKETS, bucket};

/// The number of bins: a multiple of the columns of each chart.
const BINS: usize = 480;

/// The initial width of a bin, in ns.
const INITIAL_WIDTH_NS: u64 = 1_000_000;

/// The events within one bin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bin {
    /// Stalls that ended, by the histogram bucket of their duration.
    pub(super) stalls: [u64; BUCKETS],
    pub(super) errors: u64,
    pub(super) lost: u64,
}

impl Bin {
    fn merge(&mut self, other: &Self) {
        let Self { stalls, errors, lost } = other;
        for (sum, count) in self.stalls.iter_mut().zip(stalls) {
            *sum += count;
        }
        self.errors += errors;
        self.lost += lost;
    }
}

/// Bins of equal width from the first event on. The width doubles whenever an event is past the last
/// bin.
#[derive(Clone, Debug, Default)]
pub(super) struct Timeline {
    origin_ns: Option<u64>,
    width_ns: u64,
    bins: Vec<Bin>,
    /// Returned in place of an index out of bounds, which does not occur.
    outside: Bin,
}

impl Timeline {
    /// The bin of a time in ns. Times before the first event are in the first bin.
    pub(super) fn at(&mut self, time_ns: u64) -> &mut Bin {
        if self.width_ns == 0 {
            self.width_ns = INITIAL_WIDTH_NS;
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

    pub(super) fn stall(&mut self, time_ns: u64, duration_ns: u64) {
        if let Some(count) = self.at(time_ns).stalls.get_mut(bucket(duration_ns)) {
            *count += 1;
        }
    }

    /// The start of the first bin, in ns since 1970.
    pub(super) fn origin_ns(&self) -> u64 {
        self.origin_ns.unwrap_or(0)
    }

    /// Merges the bins up to a time into at most `limit` bins. Returns their width in ns, and the bins.
    pub(super) fn bins(&self, limit: usize, until_ns: u64) -> (u64, Vec<Bin>) {
        let since = until_ns.saturating_sub(self.origin_ns());
        let filled = self.bins.iter().rposition(|bin| *bin != Bin::default()).unwrap_or(0);
        let used = (self.index(since).max(filled) + 1).min(BINS);
        let merged = used.div_ceil(limit.max(1));
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
    fn bins_widen_with_the_time_span() {
        let mut timeline = Timeline::default();
        timeline.stall(5_000_000_000, 1_000_000);
        timeline.stall(5_100_000_000, 1_000_000);
        timeline.stall(65_000_000_000, 90_000_000);
        timeline.at(65_000_000_000).errors += 2;
        let (width, bins) = timeline.bins(120, 65_000_000_000);
        assert_eq!(stalls(&bins), 3);
        assert_eq!(stalls(&bins[..1]), 2);
        assert!(bins.len() <= 120 && width * bins.len() as u64 >= 60_000_000_000);
        let last = bins.last().unwrap();
        assert_eq!((last.errors, last.stalls[bucket(90_000_000)]), (2, 1));
    }

    proptest! {
        #[test]
        fn every_stall_is_in_a_bin(times in proptest::collection::vec(any::<u64>(), 1..60)) {
            let mut timeline = Timeline::default();
            for &time in &times {
                timeline.stall(time, time);
            }
            let until = times.iter().copied().max().unwrap_or(0);
            for limit in [1, 40, 120, 1000] {
                let (_, bins) = timeline.bins(limit, until);
                prop_assert!(bins.len() <= limit);
                prop_assert_eq!(stalls(&bins), times.len() as u64);
            }
        }
    }
}
