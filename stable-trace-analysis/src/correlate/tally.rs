//! The stalls of a run, folded by why and where.

use std::collections::BTreeMap;

use stable_trace_common::histogram::Histogram;

use crate::{
    event::{Context, StallSummary},
    statistics::quantile::quantile_ns,
};

/// Why and where: context, device, file system.
pub type Place = (Context, Option<String>, Option<String>);

/// Histograms by place.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    places: BTreeMap<Place, Histogram>,
}

impl Tally {
    /// Adds a histogram to a place.
    pub fn add(&mut self, place: Place, more: &Histogram) {
        self.places.entry(place).or_insert(Histogram::EMPTY).merge(more);
    }

    /// Everything, as one number.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.places.values().map(Histogram::count).sum()
    }

    /// The histograms, by place.
    pub fn places(&self) -> impl Iterator<Item = (&Place, &Histogram)> {
        self.places.iter()
    }

    /// One line a place, the most stalled time first.
    #[must_use]
    pub fn summaries(&self) -> Vec<StallSummary> {
        let mut lines: Vec<_> = self
            .places
            .iter()
            .map(|((context, device, fs), histogram)| {
                let at = |part| quantile_ns(&histogram.buckets, histogram.max_ns, part);
                StallSummary {
                    context: *context,
                    device: device.clone(),
                    fs: fs.clone(),
                    count: histogram.count(),
                    total_ns: histogram.sum_ns,
                    p50_ns: at(0.5),
                    p90_ns: at(0.9),
                    p99_ns: at(0.99),
                    max_ns: histogram.max_ns,
                    buckets: filled(&histogram.buckets),
                }
            })
            .collect();
        lines.sort_by_key(|line| std::cmp::Reverse(line.total_ns));
        lines
    }
}

/// Buckets without the empty ones at the end.
fn filled(buckets: &[u64]) -> Vec<u64> {
    let end = buckets.iter().rposition(|&count| count > 0).map_or(0, |last| last + 1);
    buckets.iter().take(end).copied().collect()
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
    fn stacks_of_one_context_fold_into_one_line() {
        let mut tally = Tally::default();
        let place = (Context::WriteBegin, Some("loop0".to_owned()), Some("ext4".to_owned()));
        tally.add(place.clone(), &of(&[2_000_000, 3_000_000]));
        tally.add(place, &of(&[9_000_000]));
        tally.add((Context::Sync, None, None), &of(&[20_000_000]));
        let lines = tally.summaries();
        assert_eq!(tally.total(), 4);
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].context, Context::Sync, "the most stalled time comes first");
        assert_eq!(
            (lines[1].count, lines[1].total_ns, lines[1].max_ns),
            (3, 14_000_000, 9_000_000)
        );
        // 2 ms, 3 ms, 9 ms: up to 2.048, 4.096 and 16.384 ms.
        assert_eq!(lines[1].buckets.get(11..), Some(&[1, 1, 0, 1][..]));
    }
}
