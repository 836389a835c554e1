//! What is remembered of the stream: events by what they are about, the oldest leave first.

use std::collections::VecDeque;

use super::{
    moments::{Moment, Within, insert},
    topics::{Number, Topic, Topics},
};

/// Events of one kind, in the order of time whatever order they came in.
#[derive(Debug)]
pub struct EventIndex {
    max: usize,
    events: VecDeque<(Moment, [Option<Number>; 3])>,
    topics: Topics,
    forgotten_until: Option<u64>,
}

impl EventIndex {
    /// Remembers at most `max` events, and at least one.
    pub fn new(max: usize) -> Self {
        Self {
            max: max.max(1),
            events: VecDeque::new(),
            topics: Topics::default(),
            forgotten_until: None,
        }
    }

    /// Remembers an event. If there is no room, the oldest leaves.
    pub fn add(&mut self, moment: Moment, topics: [Option<Topic>; 3]) {
        if self.events.len() >= self.max {
            match self.events.front() {
                Some((oldest, _)) if *oldest < moment => self.drop_oldest(true),
                _ => return self.forgot(moment.time_ns),
            }
        }
        let topics = topics.map(|topic| self.topics.add(topic?, moment));
        insert(&mut self.events, (moment, topics), |(entry, _)| *entry);
    }

    /// Forgets what happened before a time that nobody will ask about any more.
    pub fn prune(&mut self, before_ns: u64) {
        while self.events.front().is_some_and(|(moment, _)| moment.time_ns < before_ns) {
            self.drop_oldest(false);
        }
    }

    /// Forgets everything; a question about the time before `now_ns` has no full answer.
    pub fn restart(&mut self, now_ns: u64) {
        self.events.clear();
        self.topics.clear();
        self.forgotten_until = Some(now_ns);
    }

    /// The events about something from one time to another, both included.
    pub fn about(&self, topic: Topic, from_ns: u64, to_ns: u64) -> Within<'_> {
        let moments = self.topics.moments(topic);
        moments.map_or_else(Within::default, |moments| moments.within(from_ns, to_ns))
    }

    /// Whether something that happened at this time or later had to leave for want of room.
    pub fn forgot_since(&self, time_ns: u64) -> bool {
        self.forgotten_until.is_some_and(|until| until >= time_ns)
    }

    /// How many events are remembered.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.events.len()
    }

    fn drop_oldest(&mut self, for_room: bool) {
        let Some((moment, topics)) = self.events.pop_front() else { return };
        for topic in topics.into_iter().flatten() {
            // The same order in both: what leaves is the first of its topics.
            self.topics.drop_oldest(topic);
        }
        if for_room {
            self.forgot(moment.time_ns);
        }
    }

    fn forgot(&mut self, time_ns: u64) {
        self.forgotten_until = self.forgotten_until.max(Some(time_ns));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::{correlate::verdict::topics::File, units::DeviceId};

    const FILE: File = (DeviceId::new(8, 0), 1);

    fn at(time_ns: u64, seq: u64) -> Moment {
        Moment { time_ns, seq, store: false }
    }

    fn page(index: u64) -> Topic {
        Topic::Page((FILE, index))
    }

    fn seqs(ledger: &EventIndex, topic: Topic, from: u64, to: u64) -> Vec<u64> {
        ledger.about(topic, from, to).iter().map(|moment| moment.seq).collect()
    }

    #[test]
    fn both_ends_of_a_span_belong_to_it() {
        let mut ledger = EventIndex::new(10);
        for (time, seq) in [(10, 1), (20, 2), (30, 3)] {
            ledger.add(at(time, seq), [Some(page(1)), None, None]);
        }
        assert_eq!(seqs(&ledger, page(1), 10, 20), [1, 2]);
        assert_eq!(seqs(&ledger, page(1), 21, 29), [] as [u64; 0]);
        assert_eq!(
            seqs(&ledger, page(1), 40, 5),
            [] as [u64; 0],
            "a span that ends before it begins"
        );
        assert_eq!(seqs(&ledger, page(2), 0, 99), [] as [u64; 0]);
    }

    #[test]
    fn what_has_left_is_known_to_have_left() {
        let mut ledger = EventIndex::new(2);
        for (time, seq) in [(10, 1), (20, 2), (30, 3)] {
            ledger.add(at(time, seq), [Some(page(1)), None, None]);
        }
        assert_eq!(seqs(&ledger, page(1), 0, 99), [2, 3]);
        assert!(ledger.forgot_since(10));
        assert!(!ledger.forgot_since(11));
        ledger.add(at(15, 4), [Some(page(1)), None, None]);
        assert_eq!(
            seqs(&ledger, page(1), 0, 99),
            [2, 3],
            "older than all: the oldest leaves first"
        );
        assert!(ledger.forgot_since(15));
        ledger.prune(25);
        assert_eq!(seqs(&ledger, page(1), 0, 99), [3]);
        assert!(!ledger.forgot_since(16), "nobody asks for what was pruned");
    }

    proptest! {
        /// Against a set that is sorted and cut anew each time.
        #[test]
        fn it_holds_the_youngest_in_order(
            events in proptest::collection::vec((0_u64..50, 0_u64..4), 0..200),
            max in 1_usize..40,
            from in 0_u64..50,
            length in 0_u64..50,
        ) {
            let mut ledger = EventIndex::new(max);
            let mut model = BTreeSet::new();
            for (seq, (time, index)) in events.into_iter().enumerate() {
                let seq = seq as u64;
                ledger.add(at(time, seq), [Some(page(index)), Some(Topic::File(FILE)), None]);
                model.insert((time, seq, index));
                if model.len() > max {
                    model.pop_first();
                }
                prop_assert_eq!(ledger.len(), model.len());
            }
            for index in 0..4 {
                let expected: Vec<_> = model
                    .iter()
                    .filter(|(time, _, of)| *of == index && (from..=from + length).contains(time))
                    .map(|(_, seq, _)| *seq)
                    .collect();
                prop_assert_eq!(seqs(&ledger, page(index), from, from + length), expected);
            }
            let all: Vec<_> = model.iter().map(|(_, seq, _)| *seq).collect();
            prop_assert_eq!(seqs(&ledger, Topic::File(FILE), 0, 99), all);
            ledger.prune(u64::MAX);
            prop_assert!(ledger.topics.is_empty(), "nothing is left behind");
        }
    }
}
