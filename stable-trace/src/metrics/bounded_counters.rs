//! Counters that never go back, whatever a device is called in between.
//!
//! The kernel counts by what it knows: a backing and a stack. What a user reads is named: a device, a
//! file system, a context. A name may become known after the count began, and a number of a device
//! may be used anew. So what was counted since the last look goes to what it is called now, and what
//! was told once stays where it is.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
};

use stable_trace_common::histogram::Histogram;

/// Something that only grows.
pub trait Count: Clone {
    /// Nothing counted.
    const NONE: Self;
    /// What was counted since an earlier look.
    #[must_use]
    fn since(&self, earlier: &Self) -> Self;
    /// Adds what another one counted.
    fn add(&mut self, more: &Self);
    /// Whether nothing is counted.
    fn is_none(&self) -> bool;
}

impl Count for u64 {
    const NONE: Self = 0;
    fn since(&self, earlier: &Self) -> Self {
        self.saturating_sub(*earlier)
    }
    fn add(&mut self, more: &Self) {
        *self = self.saturating_add(*more);
    }
    fn is_none(&self) -> bool {
        *self == 0
    }
}

impl Count for Histogram {
    const NONE: Self = Self::EMPTY;
    fn since(&self, earlier: &Self) -> Self {
        let mut since = *self;
        for (now, then) in since.buckets.iter_mut().zip(&earlier.buckets) {
            *now = now.saturating_sub(*then);
        }
        since.sum_ns = self.sum_ns.saturating_sub(earlier.sum_ns);
        since
    }
    fn add(&mut self, more: &Self) {
        self.merge(more);
    }
    fn is_none(&self) -> bool {
        self.count() == 0
    }
}

/// Sums by label set `L` of what the kernel counts by key `K`.
#[derive(Debug)]
pub struct BoundedCounters<K, L, V> {
    /// What each key had counted when it was last looked at; as many as the kernel's map has.
    seen: HashMap<K, V>,
    sums: BTreeMap<L, V>,
    /// How many label sets may have sums of their own.
    limit: usize,
    /// How many have.
    own: usize,
    /// The label set that takes what has no room.
    other: fn(&L) -> L,
}

impl<K: Eq + Hash, L: Ord + Clone, V: Count> BoundedCounters<K, L, V> {
    /// An empty one. `other` maps a label set to one of few, those that take what has no room.
    #[must_use]
    pub fn new(limit: usize, other: fn(&L) -> L) -> Self {
        Self { seen: HashMap::new(), sums: BTreeMap::new(), limit, own: 0, other }
    }

    /// Makes a label set known, so that it starts at 0; not if there is no room. Says whether it is
    /// new.
    pub fn announce(&mut self, labels: L) -> bool {
        let new = !self.sums.contains_key(&labels) && self.own < self.limit;
        if new {
            self.own += 1;
            self.sums.insert(labels, V::NONE);
        }
        new
    }

    /// Takes what a key has counted so far, and what it is called now.
    pub fn look(&mut self, key: K, labels: L, so_far: &V) {
        let seen = self.seen.entry(key).or_insert(V::NONE);
        let since = so_far.since(seen);
        if since.is_none() {
            return;
        }
        seen.add(&since);
        let place = if self.sums.contains_key(&labels) {
            labels
        } else if self.own < self.limit {
            self.own += 1;
            labels
        } else {
            (self.other)(&labels)
        };
        self.sums.entry(place).or_insert(V::NONE).add(&since);
    }

    /// Every sum, by label set.
    pub fn sums(&self) -> impl Iterator<Item = (&L, &V)> {
        self.sums.iter()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sums(counters: &BoundedCounters<u32, String, u64>) -> Vec<(&str, u64)> {
        counters.sums().map(|(label, sum)| (label.as_str(), *sum)).collect()
    }

    #[test]
    fn a_new_name_takes_what_comes_and_the_old_one_keeps_what_it_had() {
        let mut counters = BoundedCounters::new(9, |_| "other".to_owned());
        counters.look(1, "unknown".to_owned(), &5);
        counters.look(1, "sda".to_owned(), &5);
        assert_eq!(sums(&counters), [("unknown", 5)]);
        counters.look(1, "sda".to_owned(), &8);
        assert_eq!(sums(&counters), [("sda", 3), ("unknown", 5)]);
        // The same look twice counts nothing twice.
        counters.look(1, "sda".to_owned(), &8);
        assert_eq!(sums(&counters), [("sda", 3), ("unknown", 5)]);
    }

    #[test]
    fn who_comes_too_late_goes_to_other_for_good() {
        let mut counters = BoundedCounters::new(2, |_| "other".to_owned());
        counters.announce("a".to_owned());
        counters.look(2, "b".to_owned(), &1);
        counters.look(3, "c".to_owned(), &4);
        counters.announce("d".to_owned());
        counters.look(3, "c".to_owned(), &6);
        counters.look(1, "a".to_owned(), &2);
        assert_eq!(sums(&counters), [("a", 2), ("b", 1), ("other", 6)]);
    }

    proptest! {
        /// Keys grow by any steps and are called by any names: no sum goes back, and all of them
        /// together are what the kernel counted.
        #[test]
        fn nothing_goes_back_and_nothing_is_missing(
            looks in prop::collection::vec((0_u32..6, 0_u8..9, 0_u64..1000), 1..200),
            limit in 0_usize..6,
        ) {
            let mut counters = BoundedCounters::new(limit, |_| u8::MAX);
            let mut kernel = [0_u64; 6];
            let mut before: BTreeMap<u8, u64> = BTreeMap::new();
            for (key, name, step) in looks {
                let count = &mut kernel[usize::try_from(key).unwrap()];
                *count += step;
                counters.look(key, name, count);
                let after: BTreeMap<u8, u64> = counters.sums().map(|(l, v)| (*l, *v)).collect();
                for (label, value) in &before {
                    prop_assert!(after.get(label).is_some_and(|now| now >= value));
                }
                prop_assert!(after.len() <= limit + 1);
                prop_assert_eq!(after.values().sum::<u64>(), kernel.iter().sum::<u64>());
                before = after;
            }
        }
    }
}
