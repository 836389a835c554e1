//! Stalls of a run, summed by context and device.

use std::collections::BTreeMap;

use stable_trace_common::histogram::Histogram;

use crate::{
    event::{Context, StallSummary},
    statistics::quantile::quantile_ns,
};

/// Context, device and file system.
pub type StallLabels = (Context, Option<String>, Option<String>);

/// Stall histograms by label set.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    histograms: BTreeMap<StallLabels, Histogram>,
}

impl Tally {
    /// Adds a histogram to that of a label set.
    pub fn add(&mut self, labels: StallLabels, more: &Histogram) {
        self.histograms.entry(labels).or_insert(Histogram::EMPTY).merge(more);
    }

    /// Number of all stalls.
    pub fn total(&self) -> u64 {
        self.histograms.values().map(Histogram::count).sum()
    }

    /// A summary line for each label set, the most stalled time first.
    pub fn summaries(&self) -> Vec<StallSummary> {
        let mut lines: Vec<_> = self
            .histograms
            .iter()
            .map(|((context, device, fs), histogram)| {
                let quantile = |part| quantile_ns(&histogram.buckets, histogram.max_ns, part);
                StallSummary {
                    context: *context,
                    device: device.clone(),
                    fs: fs.clone(),
                    count: histogram.count(),
                    total_ns: histogram.sum_ns,
                    p50_ns: quantile(0.5),
                    p90_ns: quantile(0.9),
                    p99_ns: quantile(0.99),
                    max_ns: histogram.max_ns,
                    buckets: without_trailing_zeros(&histogram.buckets),
                }
            })
            .collect();
        lines.sort_by_key(|line| std::cmp::Reverse(line.total_ns));
        lines
    }
}

fn without_trailing_zeros(buckets: &[u64]) -> Vec<u64> {
    let end = buckets.iter().rposition(|&count| count > 0).map_or(0, |last| last + 1);
    buckets.iter().take(end).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_of_one_label_set_are_one_line() {
        let mut tally = Tally::default();
        let labels = (Context::WriteBegin, Some("loop0".to_owned()), Some("ext4".to_owned()));
        tally.add(labels.clone(), &[2_000_000, 3_000_000].into_iter().collect());
        tally.add(labels, &[9_000_000].into_iter().collect());
        tally.add((Context::Sync, None, None), &[20_000_000].into_iter().collect());
        let lines = tally.summaries();
        assert_eq!(tally.total(), 4);
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].context, Context::Sync, "the most stalled time comes first");
        assert_eq!(
            (lines[1].count, lines[1].total_ns, lines[1].max_ns),
            (3, 14_000_000, 9_000_000)
        );
        // 2, 3 and 9 ms are in the buckets up to 2.048, 4.096 and 16.384 ms.
        assert_eq!(lines[1].buckets.get(11..), Some(&[1, 1, 0, 1][..]));
    }
}
