//! The files and processes that stalled longest, without keeping every one there was.

use std::{hash::Hash, rc::Rc};

use hashbrown::HashMap;

/// The most that are kept of each.
const KEPT: usize = 1 << 15;

/// Stalled time by something.
#[derive(Clone, Debug)]
pub struct Top<K, L> {
    /// What is looked up for each stall is small, and labels lie apart.
    kept: HashMap<K, (Stalled, Box<L>)>,
    forgotten: bool,
}

/// How often, and how long in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stalled {
    /// Stalls.
    pub count: u64,
    /// Their sum in ns.
    pub total_ns: u64,
    /// The longest in ns.
    pub max_ns: u64,
}

impl Stalled {
    fn add(&mut self, duration_ns: u64) {
        self.count += 1;
        self.total_ns = self.total_ns.saturating_add(duration_ns);
        self.max_ns = self.max_ns.max(duration_ns);
    }
}

/// A file that was waited for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopFile {
    /// The device, where it is known.
    pub device: Option<Rc<str>>,
    /// The file system's type, where it is known.
    pub fs: Option<Rc<str>>,
    /// Its inode.
    pub ino: u64,
    /// Its path, where it is known.
    pub path: Option<String>,
}

/// A process that waited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopProcess {
    /// Its number.
    pub pid: u32,
    /// What the names of its threads begin with; with a star if they differ.
    pub comm: String,
}

impl<K, L> Default for Top<K, L> {
    fn default() -> Self {
        Self { kept: HashMap::new(), forgotten: false }
    }
}

impl<K: Hash + Eq + Copy, L> Top<K, L> {
    /// Counts a stall. `label` is asked for the first time; `again` looks at what it gave then.
    pub fn add(
        &mut self,
        key: K,
        duration_ns: u64,
        label: impl FnOnce() -> L,
        again: impl FnOnce(&mut L),
    ) {
        if let Some((stalled, label)) = self.kept.get_mut(&key) {
            again(label);
            stalled.add(duration_ns);
            return;
        }
        if self.kept.len() >= KEPT {
            self.forget();
        }
        let mut stalled = Stalled::default();
        stalled.add(duration_ns);
        self.kept.insert(key, (stalled, Box::new(label())));
    }

    /// Makes room: the half that stalled least goes.
    fn forget(&mut self) {
        let mut totals: Vec<_> = self.kept.values().map(|(stalled, _)| stalled.total_ns).collect();
        let middle = totals.len() / 2;
        let (_, median, _) = totals.select_nth_unstable(middle);
        let median = *median;
        self.kept.retain(|_, (stalled, _)| stalled.total_ns > median);
        self.forgotten = true;
    }

    /// Whether some were forgotten, so that what is left may lack a part of its time.
    #[must_use]
    pub const fn is_approximate(&self) -> bool {
        self.forgotten
    }

    /// The first of them, the most stalled time first.
    #[must_use]
    pub fn first(&self, most: usize) -> Vec<(&L, Stalled)>
    where
        K: Ord,
    {
        let mut all: Vec<_> = self.kept.iter().collect();
        all.sort_by_key(|(key, (stalled, _))| (std::cmp::Reverse(stalled.total_ns), **key));
        all.into_iter().take(most).map(|(_, (stalled, label))| (&**label, *stalled)).collect()
    }
}

impl TopProcess {
    /// Another thread's name.
    pub fn also(&mut self, comm: &str) {
        if self.comm == comm {
            return;
        }
        let known = self.comm.strip_suffix('*').unwrap_or(&self.comm);
        if comm.starts_with(known) && self.comm.ends_with('*') {
            return;
        }
        let same = known.chars().zip(comm.chars()).take_while(|(one, other)| one == other);
        self.comm = same.map(|(char, _)| char).chain(['*']).collect();
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
        let stalled = Stalled { count: 2, total_ns: 25, max_ns: 15 };
        assert_eq!(first[1], (&"file 1".to_owned(), stalled));
        assert!(!top.is_approximate());
    }

    #[test]
    fn it_stays_small_and_keeps_the_large_ones() {
        let mut top = Top::default();
        for round in 0_u32..10 {
            top.add(u32::MAX, 1_000_000, || "large", |_| {});
            for key in 0..40_000 {
                top.add(round * 40_000 + key, 1, || "small", |_| {});
            }
        }
        assert!(top.kept.len() <= KEPT);
        assert!(top.is_approximate());
        assert_eq!(
            top.first(1),
            [(&"large", Stalled { count: 10, total_ns: 10_000_000, max_ns: 1_000_000 })]
        );
    }

    #[test]
    fn threads_of_a_process_share_a_name() {
        let mut process = TopProcess { pid: 1, comm: "wac-write-1".into() };
        process.also("wac-write-1");
        assert_eq!(process.comm, "wac-write-1");
        process.also("wac-write-2");
        process.also("wac-write-1");
        process.also("wac-mmap-1");
        assert_eq!(process.comm, "wac-*");
    }
}
