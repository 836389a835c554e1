//! The moments of one topic, in the order of time.

use std::{collections::VecDeque, slice};

/// When something happened and where in the stream it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// Nanoseconds since 1970.
    pub time_ns: u64,
    /// `seq` of its line.
    pub seq: u64,
    /// Of a rewrite: whether it was a store to mapped memory, and no `write`.
    pub store: bool,
}

/// At least one moment. Most topics are pages with one alone, which needs no queue.
#[derive(Debug)]
pub enum Moments {
    One(Moment),
    More(VecDeque<Moment>),
}

impl Moments {
    /// Adds one.
    pub fn add(&mut self, moment: Moment) {
        match self {
            Self::One(first) => {
                let mut queue = VecDeque::from([*first]);
                insert(&mut queue, moment, |entry| *entry);
                *self = Self::More(queue);
            }
            Self::More(queue) => insert(queue, moment, |entry| *entry),
        }
    }

    /// Drops the oldest, and says whether that was the last.
    pub fn drop_oldest(&mut self) -> bool {
        match self {
            Self::One(_) => true,
            Self::More(queue) => {
                queue.pop_front();
                queue.is_empty()
            }
        }
    }

    /// Those from one time to another, both included.
    pub fn within(&self, from_ns: u64, to_ns: u64) -> Within<'_> {
        let (older, younger) = match self {
            Self::One(moment) => (slice::from_ref(moment), &[][..]),
            Self::More(queue) => queue.as_slices(),
        };
        Within { older: part(older, from_ns, to_ns), younger: part(younger, from_ns, to_ns) }
    }
}

/// Moments of a span of time, oldest first. None by default.
#[derive(Clone, Copy, Debug, Default)]
pub struct Within<'a> {
    older: &'a [Moment],
    younger: &'a [Moment],
}

impl<'a> Within<'a> {
    pub const fn count(self) -> u64 {
        self.older.len() as u64 + self.younger.len() as u64
    }

    pub fn iter(self) -> impl DoubleEndedIterator<Item = Moment> + use<'a> {
        self.older.iter().chain(self.younger).copied()
    }
}

fn part(moments: &[Moment], from_ns: u64, to_ns: u64) -> &[Moment] {
    let start = moments.partition_point(|moment| moment.time_ns < from_ns);
    let end = moments.partition_point(|moment| moment.time_ns <= to_ns);
    // Nothing of a span that ends before it begins.
    moments.get(start..end).unwrap_or_default()
}

/// Inserts where time and `seq` say: nearly always at the end.
pub fn insert<T>(queue: &mut VecDeque<T>, item: T, moment: impl Fn(&T) -> Moment) {
    let at = moment(&item);
    if queue.back().is_none_or(|last| moment(last) <= at) {
        queue.push_back(item);
    } else {
        let place = queue.partition_point(|entry| moment(entry) <= at);
        queue.insert(place, item);
    }
}
