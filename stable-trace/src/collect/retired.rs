//! Counts of keys that were removed from a kernel map, so that it has room for new ones.
//!
//! A key goes once nobody adds to it any more. A program that adds to it in the moment between its last
//! reading and its removal would be missed: only keys that have not changed for an interval are removed.

use std::{collections::HashMap, hash::Hash};

/// The most keys whose counts are kept. Beyond that the kernel's map fills up, and its overflow entry
/// counts.
const LIMIT: usize = 16_384;

/// The counts of the removed keys of one map.
#[derive(Debug)]
pub(super) struct Retired<K, V> {
    counts: HashMap<K, V>,
    /// What the keys of the kernel's map had when they were last looked at.
    before: HashMap<K, V>,
}

impl<K, V> Default for Retired<K, V> {
    fn default() -> Self {
        Self { counts: HashMap::new(), before: HashMap::new() }
    }
}

impl<K: Copy + Eq + Hash, V: Copy + PartialEq> Retired<K, V> {
    /// The keys that can be removed now: `may_go` holds, and they have the same count as at the last call.
    pub(super) fn removable(&mut self, entries: &[(K, V)], may_go: impl Fn(&K) -> bool) -> Vec<K> {
        let room = LIMIT.saturating_sub(self.counts.len());
        let unchanged = entries.iter().filter(|(key, value)| self.before.get(key) == Some(value));
        let keys = unchanged.map(|(key, _)| *key).filter(may_go).take(room).collect();
        self.before = entries.iter().copied().collect();
        keys
    }

    /// Forgets what the keys had: the map has room.
    pub(super) fn forget_before(&mut self) {
        self.before = HashMap::new();
    }

    /// Keeps the last count of a removed key. A key can be removed more than once.
    pub(super) fn keep(&mut self, key: K, value: V, add: impl Fn(&mut V, &V)) {
        self.counts.entry(key).and_modify(|sum| add(sum, &value)).or_insert(value);
        self.before.remove(&key);
    }

    /// Adds the counts of the removed keys to those of the kernel's map.
    pub(super) fn add_to(&self, entries: Vec<(K, V)>, add: impl Fn(&mut V, &V)) -> Vec<(K, V)> {
        if self.counts.is_empty() {
            return entries;
        }
        let mut all = self.counts.clone();
        for (key, value) in entries {
            all.entry(key).and_modify(|sum| add(sum, &value)).or_insert(value);
        }
        all.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "as for larger values")]
    fn add(sum: &mut u64, value: &u64) {
        *sum += value;
    }

    #[test]
    fn only_unchanged_keys_go() {
        let mut retired = Retired::default();
        let mut entries: Vec<(u32, u64)> = (0..50).map(|key| (key, 1)).collect();
        let may_go = |key: &u32| *key != 7;
        assert!(retired.removable(&entries, may_go).is_empty(), "seen for the first time");
        entries[3].1 = 2;
        let keys = retired.removable(&entries, may_go);
        assert_eq!(keys.len(), 48);
        assert!(!keys.contains(&3) && !keys.contains(&7));
        retired.forget_before();
        assert!(retired.removable(&entries, may_go).is_empty());
    }

    #[test]
    fn counts_of_removed_keys_stay() {
        let mut retired = Retired::default();
        retired.keep(1, 5, add);
        retired.keep(1, 2, add);
        let mut all = retired.add_to(vec![(1, 10), (2, 20)], add);
        all.sort_unstable();
        assert_eq!(all, [(1, 17), (2, 20)]);
    }

    #[test]
    fn the_counts_that_are_kept_are_bounded() {
        let mut retired = Retired::default();
        for key in 0..u32::try_from(LIMIT).unwrap() - 1 {
            retired.keep(key, 1, add);
        }
        let entries = [(u32::MAX, 1), (u32::MAX - 1, 1)];
        assert!(retired.removable(&entries, |_| true).is_empty());
        assert_eq!(retired.removable(&entries, |_| true).len(), 1);
    }
}
