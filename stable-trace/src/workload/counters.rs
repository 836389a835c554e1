//! What workers count, and the sum that a reporter takes while they run.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use stable_trace_analysis::event::ModeCount;

use super::errno::{CAUSES, Cause};
use super::profile::Mode;

/// What a worker asks of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// `pwrite`.
    Pwrite,
    /// `sync_file_range`.
    SyncFileRange,
    /// `fsync`.
    Fsync,
    /// `msync`.
    Msync,
    /// No call: a store to mapped memory.
    Store,
}

impl Call {
    /// All of them, in the order of their numbers.
    const ALL: [Self; 5] =
        [Self::Pwrite, Self::SyncFileRange, Self::Fsync, Self::Msync, Self::Store];

    /// As the manual pages have it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pwrite => "pwrite",
            Self::SyncFileRange => "sync_file_range",
            Self::Fsync => "fsync",
            Self::Msync => "msync",
            Self::Store => "store",
        }
    }
}

/// One worker's counts. Only that worker writes them; anybody may read.
///
/// Aligned to two cache lines, because neighbouring lines are prefetched as a pair: workers must not
/// slow each other by counting.
#[derive(Debug)]
#[repr(align(128))]
pub struct Counters {
    operations: AtomicU64,
    bytes: AtomicU64,
    errors: [[AtomicU64; CAUSES]; Call::ALL.len()],
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            operations: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            errors: [const { [const { AtomicU64::new(0) }; CAUSES] }; Call::ALL.len()],
        }
    }
}

/// A plain load and store: with one writer no locked instruction is needed.
fn add(counter: &AtomicU64, count: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(count), Relaxed);
}

impl Counters {
    /// A write or a round of stores is done: `count` bytes.
    pub fn wrote(&self, count: u64) {
        add(&self.bytes, count);
    }

    /// A write and its sync are done.
    pub fn completed(&self) {
        add(&self.operations, 1);
    }

    /// A call failed.
    pub fn failed(&self, call: Call, cause: Cause) {
        let of_call = self.errors.get(call as usize);
        if let Some(counter) = of_call.and_then(|errors| errors.get(cause.index())) {
            add(counter, 1);
        }
    }
}

/// Counts of all workers of one mode.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Writes with their sync, both successful.
    pub operations: u64,
    /// Bytes given to the kernel, those whose sync failed included.
    pub bytes: u64,
    /// Failures by call, then by name.
    pub failed: BTreeMap<String, BTreeMap<String, u64>>,
}

impl Totals {
    /// Adds one worker's counts.
    pub fn add(&mut self, counters: &Counters) {
        self.operations += counters.operations.load(Relaxed);
        self.bytes += counters.bytes.load(Relaxed);
        for (call, errors) in Call::ALL.iter().zip(&counters.errors) {
            for (index, counter) in errors.iter().enumerate() {
                let count = counter.load(Relaxed);
                if count > 0 {
                    self.count(call.name(), &Cause::at(index).name(), count);
                }
            }
        }
    }

    fn count(&mut self, call: &str, name: &str, count: u64) {
        let of_call = self.failed.entry(call.to_owned()).or_default();
        *of_call.entry(name.to_owned()).or_default() += count;
    }

    /// Failures by name, whatever the call.
    #[must_use]
    pub fn errors(&self) -> BTreeMap<String, u64> {
        let mut errors = BTreeMap::new();
        for (name, count) in self.failed.values().flatten() {
            *errors.entry(name.clone()).or_default() += count;
        }
        errors
    }

    /// Adds the counts of another mode.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        self.operations += other.operations;
        self.bytes += other.bytes;
        for (call, errors) in &other.failed {
            for (name, count) in errors {
                self.count(call, name, *count);
            }
        }
        self
    }
}

/// Counts of a whole profile, mode by mode.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModeTotals {
    /// The `pwrite` workers.
    pub write: Totals,
    /// The mmap workers.
    pub mmap: Totals,
}

impl ModeTotals {
    /// Sums what `workers` counted so far.
    pub fn of<'a>(workers: impl IntoIterator<Item = (Mode, &'a Counters)>) -> Self {
        let mut totals = Self::default();
        for (mode, counters) in workers {
            match mode {
                Mode::Write => totals.write.add(counters),
                Mode::Mmap => totals.mmap.add(counters),
            }
        }
        totals
    }

    /// By the modes' names; only those that any worker has.
    #[must_use]
    pub fn by_mode(&self, workers: impl IntoIterator<Item = Mode>) -> BTreeMap<String, ModeCount> {
        let count = |totals: &Totals| ModeCount {
            operations: totals.operations,
            bytes: totals.bytes,
            errors: totals.errors(),
        };
        let modes = workers.into_iter().map(|mode| match mode {
            Mode::Write => (mode.name().to_owned(), count(&self.write)),
            Mode::Mmap => (mode.name().to_owned(), count(&self.mmap)),
        });
        modes.collect()
    }

    /// Both modes together.
    #[must_use]
    pub fn sum(&self) -> Totals {
        self.write.clone().and(&self.mmap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    #[test]
    fn modes_are_kept_apart_and_summed() {
        let (write, mmap) = (Counters::default(), Counters::default());
        write.wrote(4096);
        write.completed();
        write.wrote(4096);
        write.failed(Call::SyncFileRange, Errno::IO.into());
        mmap.wrote(4096);
        mmap.completed();
        mmap.failed(Call::Msync, Errno::IO.into());
        mmap.failed(Call::Store, Cause::SIGBUS);
        let totals = ModeTotals::of([(Mode::Write, &write), (Mode::Mmap, &mmap)]);
        assert_eq!(totals.write.operations, 1);
        assert_eq!(totals.write.bytes, 8192);
        let sum = totals.sum();
        assert_eq!((sum.operations, sum.bytes), (2, 12288));
        assert_eq!(sum.errors(), BTreeMap::from([("EIO".into(), 2), ("SIGBUS".into(), 1)]));
        let of = |call: &str| sum.failed[call].clone();
        assert_eq!(of("sync_file_range"), BTreeMap::from([("EIO".into(), 1)]));
        assert_eq!(of("msync"), BTreeMap::from([("EIO".into(), 1)]));
        assert_eq!(of("store"), BTreeMap::from([("SIGBUS".into(), 1)]));
    }

    #[test]
    fn workers_do_not_share_cache_lines() {
        assert!(size_of::<[Counters; 2]>() >= 2 * 128);
        assert_eq!(align_of::<Counters>(), 128);
    }
}
