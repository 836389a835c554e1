//! An index of recent events by what they are about.

use std::collections::VecDeque;

use super::{
    event_refs::{EventRef, EventsInSpan, insert},
    key_table::{Key, KeyId, KeyTable},
};

/// Events of one kind, ordered by time. The oldest are evicted first.
#[derive(Debug)]
pub(super) struct EventIndex {
    max: usize,
    events: VecDeque<(EventRef, [Option<KeyId>; 3])>,
    keys: KeyTable,
    /// Time of the youngest event that was evicted for lack of space.
    evicted_until: Option<u64>,
}

impl EventIndex {
    /// An index of at most `max` events, and at least one.
    pub(super) fn new(max: usize) -> Self {
        Self {
            max: max.max(1),
            events: VecDeque::new(),
            keys: KeyTable::default(),
            evicted_until: None,
        }
    }

    /// Adds an event. If the index is full, the oldest event is evicted.
    pub(super) fn add(&mut self, event: EventRef, keys: [Option<Key>; 3]) {
        if self.events.len() >= self.max {
            match self.events.front() {
                Some((oldest, _)) if *oldest < event => {
                    if let Some(evicted) = self.remove_oldest() {
                        self.mark_evicted(evicted.time_ns);
                    }
                }
                _ => return self.mark_evicted(event.time_ns),
            }
        }
        let keys = keys.map(|key| self.keys.add(key?, event));
        insert(&mut self.events, (event, keys), |(entry, _)| *entry);
    }

    /// Removes the events before a time that no later query asks for.
    pub(super) fn prune(&mut self, before_ns: u64) {
        while self.events.front().is_some_and(|(event, _)| event.time_ns < before_ns) {
            self.remove_oldest();
        }
    }

    /// Removes all events. Events up to `now_ns` count as evicted.
    pub(super) fn restart(&mut self, now_ns: u64) {
        self.events.clear();
        self.keys.clear();
        self.evicted_until = Some(now_ns);
    }

    /// The events of a key from one time to another, both included.
    pub(super) fn find(&self, key: Key, from_ns: u64, to_ns: u64) -> EventsInSpan<'_> {
        let events = self.keys.events(key);
        events.map_or_else(EventsInSpan::default, |events| events.in_span(from_ns, to_ns))
    }

    /// Whether an event of this time or later was evicted for lack of space.
    pub(super) fn evicted_since(&self, time_ns: u64) -> bool {
        self.evicted_until.is_some_and(|until| until >= time_ns)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    fn remove_oldest(&mut self) -> Option<EventRef> {
        let (event, keys) = self.events.pop_front()?;
        for key in keys.into_iter().flatten() {
            // Both are in the same order: the oldest event is also the oldest of each of its keys.
            self.keys.remove_oldest(key);
        }
        Some(event)
    }

    fn mark_evicted(&mut self, time_ns: u64) {
        self.evicted_until = self.evicted_until.max(Some(time_ns));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        correlate::verdict::key_table::{FileId, PageId},
        units::DeviceId,
    };

    const FILE: FileId = FileId { dev: DeviceId::new(8, 0), ino: 1 };

    fn at(time_ns: u64, seq: u64) -> EventRef {
        EventRef { time_ns, seq, store: false }
    }

    fn page(index: u64) -> Key {
        Key::Page(PageId { file: FILE, index })
    }

    fn seqs(index: &EventIndex, key: Key, from: u64, to: u64) -> Vec<u64> {
        index.find(key, from, to).iter().map(|event| event.seq).collect()
    }

    #[test]
    fn both_ends_of_a_span_are_included() {
        let mut index = EventIndex::new(10);
        for (time, seq) in [(10, 1), (20, 2), (30, 3)] {
            index.add(at(time, seq), [Some(page(1)), None, None]);
        }
        assert_eq!(seqs(&index, page(1), 10, 20), [1, 2]);
        assert_eq!(seqs(&index, page(1), 21, 29), [] as [u64; 0]);
        assert_eq!(
            seqs(&index, page(1), 40, 5),
            [] as [u64; 0],
            "a span that ends before it begins"
        );
        assert_eq!(seqs(&index, page(2), 0, 99), [] as [u64; 0]);
    }

    #[test]
    fn evictions_are_reported() {
        let mut index = EventIndex::new(2);
        for (time, seq) in [(10, 1), (20, 2), (30, 3)] {
            index.add(at(time, seq), [Some(page(1)), None, None]);
        }
        assert_eq!(seqs(&index, page(1), 0, 99), [2, 3]);
        assert!(index.evicted_since(10));
        assert!(!index.evicted_since(11));
        index.add(at(15, 4), [Some(page(1)), None, None]);
        assert_eq!(
            seqs(&index, page(1), 0, 99),
            [2, 3],
            "an event older than all others is evicted itself"
        );
        assert!(index.evicted_since(15));
        index.prune(25);
        assert_eq!(seqs(&index, page(1), 0, 99), [3]);
        assert!(!index.evicted_since(16), "pruned events do not count as evicted");
    }

    proptest! {
        /// Compares with a set that is sorted and truncated after each event.
        #[test]
        fn it_holds_the_youngest_events_in_order(
            events in proptest::collection::vec((0_u64..50, 0_u64..4), 0..200),
            max in 1_usize..40,
            from in 0_u64..50,
            length in 0_u64..50,
        ) {
            let mut index = EventIndex::new(max);
            let mut model = BTreeSet::new();
            for (seq, (time, page_index)) in events.into_iter().enumerate() {
                let seq = seq as u64;
                index.add(at(time, seq), [Some(page(page_index)), Some(Key::File(FILE)), None]);
                model.insert((time, seq, page_index));
                if model.len() > max {
                    model.pop_first();
                }
                prop_assert_eq!(index.len(), model.len());
            }
            for page_index in 0..4 {
                let expected: Vec<_> = model
                    .iter()
                    .filter(|(time, _, of)| *of == page_index && (from..=from + length).contains(time))
                    .map(|(_, seq, _)| *seq)
                    .collect();
                prop_assert_eq!(seqs(&index, page(page_index), from, from + length), expected);
            }
            let all: Vec<_> = model.iter().map(|(_, seq, _)| *seq).collect();
            prop_assert_eq!(seqs(&index, Key::File(FILE), 0, 99), all);
            index.prune(u64::MAX);
            prop_assert!(index.keys.is_empty(), "no key is left behind");
        }
    }
}
