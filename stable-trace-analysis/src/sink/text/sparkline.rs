//! Draws a histogram as one line of block characters.

use stable_trace_common::histogram::upper_bound_ns;

use crate::sink::{
    bucket_range::BucketRange,
    style::{Style, Tone},
};

const EIGHTHS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Draws the buckets of `range`. The fullest bucket has the highest bar; each non-empty one has a bar.
pub(super) fn sparkline(range: BucketRange, buckets: &[u64], style: Style) -> String {
    let fullest = buckets.iter().copied().max().unwrap_or(0).max(1);
    let bar = |index: usize| {
        let count = buckets.get(index).copied().unwrap_or(0);
        let char = match count {
            0 => ' ',
            count => {
                let eighth = u128::from(count) * 8 / u128::from(fullest);
                let eighth = usize::try_from(eighth).unwrap_or(8).clamp(1, 8);
                EIGHTHS.get(eighth - 1).copied().unwrap_or(' ')
            }
        };
        style.paint(Tone::of_stall(upper_bound_ns(index).unwrap_or(u64::MAX)), char)
    };
    (range.first..=range.last).map(bar).collect()
}

#[cfg(test)]
mod tests {
    use stable_trace_common::histogram::BUCKETS;

    use super::*;

    const PLAIN: Style = Style { color: false };

    #[test]
    fn histograms_share_their_axis() {
        let (one, other) = ([0, 0, 8, 4, 1], [0, 0, 0, 0, 0, 2]);
        let range = BucketRange::of([&one[..], &other[..]]).unwrap();
        assert_eq!(range.len(), 4);
        assert_eq!(sparkline(range, &one, PLAIN), "█▄▁ ");
        assert_eq!(sparkline(range, &other, PLAIN), "   █");
        assert_eq!(range.label(), "2.00µs to 32.0µs");
    }

    #[test]
    fn a_rare_duration_has_a_bar() {
        let buckets = [1, 1_000_000];
        let range = BucketRange::of([&buckets[..]]).unwrap();
        assert_eq!(sparkline(range, &buckets, PLAIN), "▁█");
        assert_eq!(BucketRange::of([&[0, 0][..]]), None);
    }

    #[test]
    fn surplus_buckets_are_ignored() {
        let range = BucketRange::of([&[1; 90][..]]).unwrap();
        assert_eq!(range.len(), BUCKETS);
        assert_eq!(range.label(), "from 0ns");
    }
}
