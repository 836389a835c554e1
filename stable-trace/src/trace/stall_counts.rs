//! What was counted between two moments of one run.

use std::collections::{BTreeMap, HashMap};

use aya::maps::MapError;
use stable_trace_analysis::{event::Context, units::DeviceId};
use stable_trace_common::histogram::{Histogram, HistogramKey, upper_bound_ns};

use super::tracer::Tracer;

/// Every stall so far.
#[derive(Debug)]
pub struct StallCounts(HashMap<HistogramKey, Histogram>);

impl Tracer {
    /// Counts every stall so far.
    ///
    /// # Errors
    /// The kernel refused to read the map.
    pub fn stall_counts(&self) -> Result<StallCounts, MapError> {
        Ok(StallCounts(self.counters.histograms()?.into_iter().collect()))
    }

    /// Every failed check of protection information so far, on whichever device: those below a loop
    /// device are the disk's that its file is on.
    ///
    /// # Errors
    /// The kernel refused to read the map.
    pub fn checks_failed(&self) -> Result<u64, MapError> {
        Ok(self.counters.integrity_errors()?.iter().map(|(_, count)| count).sum())
    }

    /// The stalls on a disk since earlier counts, by context. Ask while the file systems that it
    /// is about are mounted: later nobody knows what their names meant.
    ///
    /// # Errors
    /// The kernel refused to read the map.
    pub fn stalls_since(
        &mut self,
        earlier: &StallCounts,
        disk: DeviceId,
    ) -> Result<BTreeMap<Context, Histogram>, MapError> {
        let mut stalls: BTreeMap<_, Histogram> = BTreeMap::new();
        for (key, now) in self.counters.histograms()? {
            let identity = self.enricher.identities.get(&key.backing);
            let backing = identity.backing.as_ref();
            if backing.is_some_and(|backing| backing.disks.contains(&disk)) {
                let before = earlier.0.get(&key).copied().unwrap_or(Histogram::EMPTY);
                let context = self.enricher.stacks.get(key.stack).reason.context;
                stalls.entry(context).or_insert(Histogram::EMPTY).merge(&since(&now, &before));
            }
        }
        Ok(stalls)
    }
}

/// What `now` has beyond `before`, which it grew from. The longest is exact if it is longer than
/// any before, else the upper bound of its bucket.
fn since(now: &Histogram, before: &Histogram) -> Histogram {
    let mut more = *now;
    for (count, before) in more.buckets.iter_mut().zip(&before.buckets) {
        *count = count.saturating_sub(*before);
    }
    more.sum_ns = now.sum_ns.saturating_sub(before.sum_ns);
    if now.max_ns <= before.max_ns {
        let longest = more.buckets.iter().rposition(|count| *count > 0);
        let bound = longest.map_or(0, |bucket| upper_bound_ns(bucket).unwrap_or(u64::MAX));
        more.max_ns = bound.min(now.max_ns);
    }
    more
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(durations: &[u64]) -> Histogram {
        let mut histogram = Histogram::EMPTY;
        for &duration in durations {
            histogram.record(duration);
        }
        histogram
    }

    #[test]
    fn what_came_later_is_the_difference() {
        let (before, now) = (of(&[5_000, 70_000]), of(&[5_000, 70_000, 6_000, 900_000]));
        assert_eq!(since(&now, &before), of(&[6_000, 900_000]));
        assert_eq!(since(&now, &Histogram::EMPTY), now);
        assert_eq!(since(&now, &now), Histogram::EMPTY);
    }

    #[test]
    fn the_longest_of_the_later_ones_is_bounded_by_its_bucket() {
        let (before, now) = (of(&[900_000]), of(&[900_000, 5_000]));
        let more = since(&now, &before);
        assert_eq!((more.count(), more.sum_ns, more.max_ns), (1, 5_000, 8_000));
    }
}
