//! Counters that never decrease, even if the labels of a kernel key change.
//!
//! The kernel counts by backing and stack. Labels are names: device, file system, context. A name may
//! become known after the count began, and a device number may be reused. So an increase is added to
//! the current labels of its key, and sums that were exposed once are never moved.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
    time::Duration,
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
    /// The last reading of each key. Bounded by the size of the kernel's map, and what the agent keeps of
    /// its removed keys.
    seen: HashMap<K, V>,
    sums: BTreeMap<L, Sum<V>>,
    /// The most label sets with a sum of their own.
    limit: usize,
    /// Label sets with a sum of their own.
    used: usize,
    /// The label set that takes the increase of another one beyond the limit.
    overflow: fn(&L) -> L,
    /// When the counts were read, since the start of the run.
    now: Duration,
}

#[derive(Debug)]
struct Sum<V> {
    value: V,
    /// When it last increased, or was declared.
    changed: Duration,
    /// Whether it is one of the limited sums, not one that takes the overflow.
    is_own: bool,
}

impl<K: Eq + Hash, L: Ord + Clone, V: Count> BoundedCounters<K, L, V> {
    /// `overflow` maps a label set to one of a few that take all increases beyond the limit.
    pub(super) fn new(limit: usize, overflow: fn(&L) -> L) -> Self {
        Self {
            seen: HashMap::new(),
            sums: BTreeMap::new(),
            limit,
            used: 0,
            overflow,
            now: Duration::ZERO,
        }
    }

    /// Begins a reading of the counts at this time. Labels without a count for which `is_wanted` does not
    /// hold give their place back.
    pub(super) fn begin(&mut self, now: Duration, is_wanted: impl Fn(&L) -> bool) {
        self.now = now;
        self.sums.retain(|labels, sum| !sum.is_own || !sum.value.is_zero() || is_wanted(labels));
        self.used = self.sums.values().filter(|sum| sum.is_own).count();
    }

    /// Adds a label set with the sum 0, unless the limit is reached. Returns whether it is new.
    pub(super) fn declare(&mut self, labels: L) -> bool {
        let new = !self.sums.contains_key(&labels) && self.used < self.limit;
        if new {
            self.used += 1;
            let sum = Sum { value: V::ZERO, changed: self.now, is_own: true };
            self.sums.insert(labels, sum);
        }
        new
    }

    /// Whether this total of a key is more than the last one.
    pub(super) fn would_increase(&self, key: &K, total: &V) -> bool {
        let increase = self.seen.get(key).map_or_else(|| total.clone(), |seen| total.since(seen));
        !increase.is_zero()
    }

    /// Takes the current total of a key, and its current labels.
    pub(super) fn observe(&mut self, key: K, labels: L, total: &V) {
        self.observe_or_replace(key, labels, total, |_, _| false);
    }

    /// As [`Self::observe`]. If the limit is reached, new labels take the place of others for which
    /// `may_go` holds, by the labels and the time since their last increase: of those that have not
    /// increased for the longest time.
    pub(super) fn observe_or_replace(
        &mut self,
        key: K,
        labels: L,
        total: &V,
        may_go: impl Fn(&L, Duration) -> bool,
    ) {
        let seen = self.seen.entry(key).or_insert(V::ZERO);
        let increase = total.since(seen);
        if increase.is_zero() {
            return;
        }
        seen.add(&increase);
        if !self.sums.contains_key(&labels) && self.used >= self.limit {
            let idle = |sum: &Sum<V>| self.now.saturating_sub(sum.changed);
            let all =
                self.sums.iter().filter(|(labels, sum)| sum.is_own && may_go(labels, idle(sum)));
            let longest = all.max_by_key(|(_, sum)| idle(sum)).map(|(labels, _)| labels.clone());
            if let Some(longest) = longest {
                self.release(&longest);
            }
        }
        let is_known = self.sums.contains_key(&labels);
        let is_own = is_known || self.used < self.limit;
        let labels = if is_own { labels } else { (self.overflow)(&labels) };
        self.used += usize::from(is_own && !is_known);
        let new = Sum { value: V::ZERO, changed: self.now, is_own };
        let sum = self.sums.entry(labels).or_insert(new);
        sum.value.add(&increase);
        sum.changed = self.now;
    }

    /// Gives the place of labels back. Their sum is added to that of the overflow, so that the sum of all
    /// labels never decreases.
    pub(super) fn release(&mut self, labels: &L) {
        if !self.sums.get(labels).is_some_and(|sum| sum.is_own) {
            return;
        }
        if let Some(Sum { value, .. }) = self.sums.remove(labels) {
            self.used -= 1;
            if !value.is_zero() {
                let overflow = Sum { value: V::ZERO, changed: self.now, is_own: false };
                self.sums.entry((self.overflow)(labels)).or_insert(overflow).value.add(&value);
            }
        }
    }

    pub(super) fn sums(&self) -> impl Iterator<Item = (&L, &V)> {
        self.sums.iter().map(|(labels, sum)| (labels, &sum.value))
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

    #[test]
    fn idle_labels_give_their_place_to_new_ones() {
        let hour = |_: &String, idle| idle >= Duration::from_hours(1);
        let mut counters = BoundedCounters::new(2, |_| "other".to_owned());
        let observed =
            |counters: &mut BoundedCounters<_, _, _>, minutes, key, name: &str, total| {
                counters.begin(Duration::from_mins(minutes), |_| true);
                counters.observe_or_replace(key, name.to_owned(), &total, hour);
            };
        observed(&mut counters, 0, 1, "a", 5);
        observed(&mut counters, 30, 2, "b", 3);
        observed(&mut counters, 59, 3, "c", 1);
        assert_eq!(sums(&counters), [("a", 5), ("b", 3), ("other", 1)]);
        observed(&mut counters, 60, 4, "d", 2);
        assert_eq!(sums(&counters), [("b", 3), ("d", 2), ("other", 6)]);
        // An unchanged total needs no place; later increases are those of a new name.
        observed(&mut counters, 95, 1, "a", 5);
        assert_eq!(sums(&counters), [("b", 3), ("d", 2), ("other", 6)]);
        observed(&mut counters, 95, 1, "a", 7);
        assert_eq!(sums(&counters), [("a", 2), ("d", 2), ("other", 9)]);
    }

    #[test]
    fn the_overflow_is_never_released() {
        let mut counters = BoundedCounters::new(9, |_| "other".to_owned());
        counters.observe(1, "other".to_owned(), &5);
        counters.release(&"other".to_owned());
        counters.release(&"other".to_owned());
        assert_eq!(sums(&counters), [("other", 5)]);
    }

    #[test]
    fn labels_without_a_count_give_their_place_back() {
        let mut counters = BoundedCounters::new(2, |_| "other".to_owned());
        counters.declare("gone".to_owned());
        counters.observe(1, "counted".to_owned(), &1);
        counters.begin(Duration::ZERO, |_| false);
        counters.observe(2, "new".to_owned(), &1);
        assert_eq!(sums(&counters), [("counted", 1), ("new", 1)]);
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
