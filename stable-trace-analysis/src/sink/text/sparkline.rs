//! A histogram in one line of eighths of a block.

use stable_trace_common::histogram::{BUCKETS, upper_bound_ns};

use crate::sink::style::{Style, duration, stall_tone};

const EIGHTHS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The buckets that several histograms span together: from the first to the last that is not empty
/// in all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    first: usize,
    last: usize,
}

impl Span {
    /// Of these; nothing if all are empty.
    pub fn of<'a>(histograms: impl IntoIterator<Item = &'a [u64]>) -> Option<Self> {
        let mut span: Option<Self> = None;
        for buckets in histograms {
            let filled = |count: &u64| *count > 0;
            let (Some(first), Some(last)) =
                (buckets.iter().position(filled), buckets.iter().rposition(filled))
            else {
                continue;
            };
            let last = last.min(BUCKETS - 1);
            span = Some(span.map_or(Self { first, last }, |span| Self {
                first: span.first.min(first),
                last: span.last.max(last),
            }));
        }
        span
    }

    /// The cells that a line takes.
    pub const fn width(self) -> usize {
        self.last + 1 - self.first
    }

    /// From which duration to which.
    pub fn ends(self) -> String {
        let from = self.first.checked_sub(1).and_then(upper_bound_ns).unwrap_or(0);
        match upper_bound_ns(self.last) {
            Some(to) => format!("{} to {}", duration(from), duration(to)),
            None => format!("from {}", duration(from)),
        }
    }

    /// One histogram: the highest bar is its own largest bucket, and no bucket that has something is
    /// shown as empty. Colours are those of stalls of that length.
    pub fn line(self, buckets: &[u64], style: Style) -> String {
        let most = buckets.iter().copied().max().unwrap_or(0).max(1);
        let bar = |index: usize| {
            let count = buckets.get(index).copied().unwrap_or(0);
            let char = match count {
                0 => ' ',
                count => {
                    let eighth = u128::from(count) * 8 / u128::from(most);
                    let eighth = usize::try_from(eighth).unwrap_or(8).clamp(1, 8);
                    EIGHTHS.get(eighth - 1).copied().unwrap_or(' ')
                }
            };
            style.paint(stall_tone(upper_bound_ns(index).unwrap_or(u64::MAX)), char)
        };
        (self.first..=self.last).map(bar).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Style = Style { color: false };

    #[test]
    fn histograms_share_their_axis() {
        let (one, other) = ([0, 0, 8, 4, 1], [0, 0, 0, 0, 0, 2]);
        let span = Span::of([&one[..], &other[..]]).unwrap();
        assert_eq!(span.width(), 4);
        assert_eq!(span.line(&one, PLAIN), "█▄▁ ");
        assert_eq!(span.line(&other, PLAIN), "   █");
        assert_eq!(span.ends(), "2.00µs to 32.0µs");
    }

    #[test]
    fn what_is_rare_is_still_seen() {
        let buckets = [1, 1_000_000];
        assert_eq!(Span::of([&buckets[..]]).unwrap().line(&buckets, PLAIN), "▁█");
        assert_eq!(Span::of([&[0, 0][..]]), None);
    }

    #[test]
    fn more_buckets_than_there_are_change_nothing() {
        let span = Span::of([&[1; 90][..]]).unwrap();
        assert_eq!(span.width(), BUCKETS);
        assert_eq!(span.ends(), "from 0ns");
    }
}
