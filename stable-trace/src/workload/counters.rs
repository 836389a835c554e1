//! Per-worker counters, and their sums, which may be taken while the workers run.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use stable_trace_analysis::event::ModeCount;

use super::errno::{CAUSE_COUNT, Cause};
use super::profile::Mode;

/// The operations of a worker that can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Pwrite,
    SyncFileRange,
    Fsync,
    Msync,
    /// A store to mapped memory, which is not a system call.
    Store,
}

impl Call {
    /// In the order of their discriminants, which index the counters.
    const ALL: [Self; 5] =
        [Self::Pwrite, Self::SyncFileRange, Self::Fsync, Self::Msync, Self::Store];

    const fn name(self) -> &'static str {
        match self {
            Self::Pwrite => "pwrite",
            Self::SyncFileRange => "sync_file_range",
            Self::Fsync => "fsync",
            Self::Msync => "msync",
            Self::Store => "store",
        }
    }
}

/// One worker's counters. Only that worker writes them.
///
/// Aligned to two cache lines, because adjacent lines are prefetched as a pair: without that, the
/// workers' counters would share cache lines.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Counters {
    operations: AtomicU64,
    bytes: AtomicU64,
    errors: [[AtomicU64; CAUSE_COUNT]; Call::ALL.len()],
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            operations: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            errors: [const { [const { AtomicU64::new(0) }; CAUSE_COUNT] }; Call::ALL.len()],
        }
    }
}

/// With a single writer, a load and a store do without an atomic read-modify-write.
fn add(counter: &AtomicU64, count: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(count), Relaxed);
}

impl Counters {
    /// Counts `count` bytes given to the kernel.
    pub(super) fn wrote(&self, count: u64) {
        add(&self.bytes, count);
    }

    /// Counts a write whose sync has succeeded.
    pub(super) fn completed(&self) {
        add(&self.operations, 1);
    }

    pub(super) fn failed(&self, call: Call, cause: Cause) {
        let of_call = self.errors.get(call as usize);
        if let Some(counter) = of_call.and_then(|errors| errors.get(cause.index())) {
            add(counter, 1);
        }
    }
}

/// Sums over the workers of one mode.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    /// Writes that succeeded and whose sync succeeded.
    pub(super) operations: u64,
    /// Bytes given to the kernel, including those whose sync failed.
    pub(super) bytes: u64,
    /// Failures by call, then by the name of the cause.
    pub(super) failed: BTreeMap<String, BTreeMap<String, u64>>,
}

impl Totals {
    fn add(&mut self, counters: &Counters) {
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

    /// Failures by the name of the cause, over all calls.
    pub(super) fn errors(&self) -> BTreeMap<String, u64> {
        let mut errors = BTreeMap::new();
        for (name, count) in self.failed.values().flatten() {
            *errors.entry(name.clone()).or_default() += count;
        }
        errors
    }

    fn merged_with(mut self, other: &Self) -> Self {
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

/// Sums of one profile, by mode.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ModeTotals {
    write: Totals,
    mmap: Totals,
}

impl ModeTotals {
    pub(super) fn of<'a>(workers: impl IntoIterator<Item = (Mode, &'a Counters)>) -> Self {
        let mut totals = Self::default();
        for (mode, counters) in workers {
            match mode {
                Mode::Write => totals.write.add(counters),
                Mode::Mmap => totals.mmap.add(counters),
            }
        }
        totals
    }

    /// The sums by the name of the mode, for the modes of `workers`.
    pub(super) fn by_mode(
        &self,
        workers: impl IntoIterator<Item = Mode>,
    ) -> BTreeMap<String, ModeCount> {
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

    /// The sum over both modes.
    pub(super) fn sum(&self) -> Totals {
        self.write.clone().merged_with(&self.mmap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    #[test]
    fn modes_are_counted_separately_and_summed() {
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
