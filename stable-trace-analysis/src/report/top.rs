//! The most stalled files and processes, in bounded memory.

use std::{hash::Hash, rc::Rc};

use hashbrown::HashMap;
use smol_str::SmolStr;

/// The limit of entries.
const CAPACITY: usize = 1 << 15;

/// Stall totals by key, each with a label. Drops the smallest totals when it is full.
#[derive(Clone, Debug)]
pub(super) struct Top<K, L> {
    /// Labels are boxed, so that the table that each stall looks up stays small.
    entries: HashMap<K, (StallTotals, Box<L>)>,
    has_dropped: bool,
}

/// The number of stalls and their durations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct StallTotals {
    pub(super) count: u64,
    /// The sum of their durations in ns.
    pub(super) total_ns: u64,
    /// The longest duration in ns.
    pub(super) max_ns: u64,
}

impl StallTotals {
    fn add(&mut self, duration_ns: u64) {
        self.count += 1;
        self.total_ns = self.total_ns.saturating_add(duration_ns);
        self.max_ns = self.max_ns.max(duration_ns);
    }
}

/// A file whose pages tasks waited for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TopFile {
    pub(super) device: Option<Rc<str>>,
    pub(super) fs: Option<Rc<str>>,
    pub(super) ino: Option<u64>,
    pub(super) path: Option<SmolStr>,
}

/// A process whose threads waited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TopProcess {
    pub(super) pid: u32,
    /// Its name, if the recording has it.
    pub(super) process: Option<SmolStr>,
    /// The common prefix of its thread names, with a `*` if they differ.
    pub(super) comm: SmolStr,
    /// Its container or pod, or else its cgroup.
    pub(super) container: Option<SmolStr>,
}

impl<K, L> Default for Top<K, L> {
    fn default() -> Self {
        Self { entries: HashMap::new(), has_dropped: false }
    }
}

impl<K: Hash + Eq + Copy, L> Top<K, L> {
    /// Adds a stall. The first stall of a key calls `label`, each later one calls `update`.
    pub(super) fn add(
        &mut self,
        key: K,
        duration_ns: u64,
        label: impl FnOnce() -> L,
        update: impl FnOnce(&mut L),
    ) {
        if let Some((totals, label)) = self.entries.get_mut(&key) {
            update(label);
            totals.add(duration_ns);
            return;
        }
        if self.entries.len() >= CAPACITY {
            self.drop_smaller_half();
        }
        let mut totals = StallTotals::default();
        totals.add(duration_ns);
        self.entries.insert(key, (totals, Box::new(label())));
    }

    /// Drops the entries up to the median of stalled time.
    fn drop_smaller_half(&mut self) {
        let mut times: Vec<_> = self.entries.values().map(|(totals, _)| totals.total_ns).collect();
        let middle = times.len() / 2;
        let (_, median, _) = times.select_nth_unstable(middle);
        let median = *median;
        self.entries.retain(|_, (totals, _)| totals.total_ns > median);
        self.has_dropped = true;
    }

    /// Whether entries were dropped. Then the remaining totals are lower bounds.
    pub(super) const fn is_approximate(&self) -> bool {
        self.has_dropped
    }

    /// The entries with the most stalled time, in descending order.
    pub(super) fn first(&self, limit: usize) -> Vec<(&L, StallTotals)>
    where
        K: Ord,
    {
        let mut all: Vec<_> = self.entries.iter().collect();
        all.sort_by_key(|(key, (totals, _))| (std::cmp::Reverse(totals.total_ns), **key));
        all.into_iter().take(limit).map(|(_, (totals, label))| (&**label, *totals)).collect()
    }
}

impl TopProcess {
    /// Adds the name of a thread.
    pub(super) fn add_thread(&mut self, comm: &str) {
        if self.comm == comm {
            return;
        }
        let prefix = self.comm.strip_suffix('*').unwrap_or(&self.comm);
        if comm.starts_with(prefix) && self.comm.ends_with('*') {
            return;
        }
        let common = prefix.chars().zip(comm.chars()).take_while(|(one, other)| one == other);
        self.comm = common.map(|(char, _)| char).chain(['*']).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_stalled_time_comes_first() {
        let mut top = Top::default();
        for (key, duration) in [(1, 10), (2, 50), (1, 15), (3, 20)] {
            top.add(key, duration, || format!("file {key}"), |_| {});
        }
        let first = top.first(2);
        assert_eq!(first[0].0, "file 2");
        let totals = StallTotals { count: 2, total_ns: 25, max_ns: 15 };
        assert_eq!(first[1], (&"file 1".to_owned(), totals));
        assert!(!top.is_approximate());
    }

    #[test]
    fn a_full_table_drops_the_smallest_totals() {
        let mut top = Top::default();
        for round in 0_u32..10 {
            top.add(u32::MAX, 1_000_000, || "large", |_| {});
            for key in 0..40_000 {
                top.add(round * 40_000 + key, 1, || "small", |_| {});
            }
        }
        assert!(top.entries.len() <= CAPACITY);
        assert!(top.is_approximate());
        assert_eq!(
            top.first(1),
            [(&"large", StallTotals { count: 10, total_ns: 10_000_000, max_ns: 1_000_000 })]
        );
    }

    #[test]
    fn a_process_has_the_common_prefix_of_its_thread_names() {
        let mut process =
            TopProcess { pid: 1, comm: "wac-write-1".into(), ..TopProcess::default() };
        process.add_thread("wac-write-1");
        assert_eq!(process.comm, "wac-write-1");
        process.add_thread("wac-write-2");
        process.add_thread("wac-write-1");
        process.add_thread("wac-mmap-1");
        assert_eq!(process.comm, "wac-*");
    }
}
