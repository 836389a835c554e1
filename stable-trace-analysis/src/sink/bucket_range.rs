//! The range of histogram buckets that are shown.

use stable_trace_common::histogram::{BUCKETS, upper_bound_ns};

use super::format::duration;

/// The range of the non-empty buckets of several histograms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BucketRange {
    pub(crate) first: usize,
    pub(crate) last: usize,
}

impl BucketRange {
    /// Returns `None` if all histograms are empty.
    pub(crate) fn of<'a>(histograms: impl IntoIterator<Item = &'a [u64]>) -> Option<Self> {
        let mut range: Option<Self> = None;
        for buckets in histograms {
            let is_filled = |count: &u64| *count > 0;
            let (Some(first), Some(last)) =
                (buckets.iter().position(is_filled), buckets.iter().rposition(is_filled))
            else {
                continue;
            };
            let last = last.min(BUCKETS - 1);
            range = Some(range.map_or(Self { first, last }, |range| Self {
                first: range.first.min(first),
                last: range.last.max(last),
            }));
        }
        range
    }

    /// The number of buckets.
    pub(crate) const fn len(self) -> usize {
        self.last + 1 - self.first
    }

    /// The durations of the range in words.
    pub(crate) fn label(self) -> String {
        let from = self.first.checked_sub(1).and_then(upper_bound_ns).unwrap_or(0);
        match upper_bound_ns(self.last) {
            Some(to) => format!("{} to {}", duration(from), duration(to)),
            None => format!("from {}", duration(from)),
        }
    }
}
