//! Counters that never decrease, even if the labels of a kernel key change.
//!
//! The kernel counts by backing and stack. Labels are names: device, file system, context. A name may
//! become known after the count began, and a device number may be reused. So an increase is added to
//! the current labels of its key, and sums that were exposed once are never moved.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
};

use stable_trace_common::histogram::Histogram;

/// A count that only grows.
pub(super) trait Count: Clone {
    const ZERO: Self;
    /// The increase since an earlier reading.
    fn since(&self, earlier: &Self) -> Self;
    fn add(&mut self, increase: &Self);
    fn is_zero(&self) -> bool;
}

impl Count for u64 {
    const ZERO: Self = 0;
    fn since(&self, earlier: &Self) -> Self {
        self.saturating_sub(*earlier)
    }
    fn add(&mut self, increase: &Self) {
        *self = self.saturating_add(*increase);
    }
    fn is_zero(&self) -> bool {
        *self == 0
    }
}

impl Count for Histogram {
    const ZERO: Self = Self::EMPTY;
    fn since(&self, earlier: &Self) -> Self {
        Self::since(self, earlier)
    }
    fn add(&mut self, increase: &Self) {
        self.merge(increase);
    }
    fn is_zero(&self) -> bool {
        self.count() == 0
    }
}

/// Sums, by label set `L`, of counts that the kernel keeps by key `K`.
#[derive(Debug)]
pub(super) struct BoundedCounters<K, L, V> {
    /// The last reading of each key. Bounded by the size of the kernel's map.
    seen: HashMap<K, V>,
    sums: BTreeMap<L, V>,
    /// The most label sets with a sum of their own.
    limit: usize,
    /// Label sets with a sum of their own.
    used: usize,
    /// The label set that takes the increase of another one beyond the limit.
    overflow: fn(&L) -> L,
}

impl<K: Eq + Hash, L: Ord + Clone, V: Count> BoundedCounters<K, L, V> {
    /// `overflow` maps a label set to one of a few that take all increases beyond the limit.
    pub(super) fn new(limit: usize, overflow: fn(&L) -> L) -> Self {
        Self { seen: HashMap::new(), sums: BTreeMap::new(), limit, used: 0, overflow }
    }

    /// Adds a label set with the sum 0, unless the limit is reached. Returns whether it is new.
    pub(super) fn declare(&mut self, labels: L) -> bool {
        let new = !self.sums.contains_key(&labels) && self.used < self.limit;
        if new {
            self.used += 1;
            self.sums.insert(labels, V::ZERO);
        }
        new
    }

    /// Takes the current total of a key, and its current labels.
    pub(super) fn observe(&mut self, key: K, labels: L, total: &V) {
        let seen = self.seen.entry(key).or_insert(V::ZERO);
        let increase = total.since(seen);
        if increase.is_zero() {
            return;
        }
        seen.add(&increase);
        let labels = if self.sums.contains_key(&labels) {
            labels
        } else if self.used < self.limit {
            self.used += 1;
            labels
        } else {
            (self.overflow)(&labels)
        };
        self.sums.entry(labels).or_insert(V::ZERO).add(&increase);
    }

    pub(super) fn sums(&self) -> impl Iterator<Item = (&L, &V)> {
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
    fn an_increase_goes_to_the_current_labels_and_old_sums_stay() {
        let mut counters = BoundedCounters::new(9, |_| "other".to_owned());
        counters.observe(1, "unknown".to_owned(), &5);
        counters.observe(1, "sda".to_owned(), &5);
        assert_eq!(sums(&counters), [("unknown", 5)]);
        counters.observe(1, "sda".to_owned(), &8);
        assert_eq!(sums(&counters), [("sda", 3), ("unknown", 5)]);
        // The same total again adds nothing.
        counters.observe(1, "sda".to_owned(), &8);
        assert_eq!(sums(&counters), [("sda", 3), ("unknown", 5)]);
    }

    #[test]
    fn label_sets_beyond_the_limit_are_counted_as_other() {
        let mut counters = BoundedCounters::new(2, |_| "other".to_owned());
        counters.declare("a".to_owned());
        counters.observe(2, "b".to_owned(), &1);
        counters.observe(3, "c".to_owned(), &4);
        counters.declare("d".to_owned());
        counters.observe(3, "c".to_owned(), &6);
        counters.observe(1, "a".to_owned(), &2);
        assert_eq!(sums(&counters), [("a", 2), ("b", 1), ("other", 6)]);
    }

    proptest! {
        /// Keys grow by any steps under any labels: no sum decreases, and the sums add up to the
        /// kernel's counts.
        #[test]
        fn no_sum_decreases_and_no_increase_is_lost(
            readings in prop::collection::vec((0_u32..6, 0_u8..9, 0_u64..1000), 1..200),
            limit in 0_usize..6,
        ) {
            let mut counters = BoundedCounters::new(limit, |_| u8::MAX);
            let mut kernel = [0_u64; 6];
            let mut before: BTreeMap<u8, u64> = BTreeMap::new();
            for (key, name, step) in readings {
                let count = &mut kernel[usize::try_from(key).unwrap()];
                *count += step;
                counters.observe(key, name, count);
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
