//! References to the events of one key, in the order of time.

use std::{collections::VecDeque, slice};

/// The time and the position in the stream of an event. References are ordered by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EventRef {
    /// Nanoseconds since 1970.
    pub(super) time_ns: u64,
    pub(super) seq: u64,
    /// Of a rewrite: whether it was a store to mapped memory rather than a `write`.
    pub(super) store: bool,
}

/// One or more references. Most keys are pages with a single event, which needs no queue.
#[derive(Debug)]
pub(super) enum EventRefs {
    One(EventRef),
    Many(VecDeque<EventRef>),
}

impl EventRefs {
    pub(super) fn add(&mut self, event: EventRef) {
        match self {
            Self::One(first) => {
                let mut queue = VecDeque::from([*first]);
                insert(&mut queue, event, |entry| *entry);
                *self = Self::Many(queue);
            }
            Self::Many(queue) => insert(queue, event, |entry| *entry),
        }
    }

    /// Removes the oldest reference. Returns whether it was the last one.
    pub(super) fn remove_oldest(&mut self) -> bool {
        match self {
            Self::One(_) => true,
            Self::Many(queue) => {
                queue.pop_front();
                queue.is_empty()
            }
        }
    }

    /// The events from one time to another, both included.
    pub(super) fn in_span(&self, from_ns: u64, to_ns: u64) -> EventsInSpan<'_> {
        let (older, younger) = match self {
            Self::One(event) => (slice::from_ref(event), &[][..]),
            Self::Many(queue) => queue.as_slices(),
        };
        EventsInSpan { older: part(older, from_ns, to_ns), younger: part(younger, from_ns, to_ns) }
    }
}

/// The events of a span of time, oldest first. The default is empty.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct EventsInSpan<'a> {
    older: &'a [EventRef],
    younger: &'a [EventRef],
}

impl<'a> EventsInSpan<'a> {
    pub(super) const fn count(self) -> u64 {
        self.older.len() as u64 + self.younger.len() as u64
    }

    pub(super) fn iter(self) -> impl DoubleEndedIterator<Item = EventRef> + use<'a> {
        self.older.iter().chain(self.younger).copied()
    }
}

fn part(events: &[EventRef], from_ns: u64, to_ns: u64) -> &[EventRef] {
    let start = events.partition_point(|event| event.time_ns < from_ns);
    let end = events.partition_point(|event| event.time_ns <= to_ns);
    // A span that ends before it begins is empty.
    events.get(start..end).unwrap_or_default()
}

/// Inserts an item in the order of its event: nearly always at the end.
pub(super) fn insert<T>(queue: &mut VecDeque<T>, item: T, event: impl Fn(&T) -> EventRef) {
    let new = event(&item);
    if queue.back().is_none_or(|last| event(last) <= new) {
        queue.push_back(item);
    } else {
        let position = queue.partition_point(|entry| event(entry) <= new);
        queue.insert(position, item);
    }
}
