//! The loop of one worker. It neither allocates memory nor takes locks.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::thread;
use std::time::Duration;

use rustix::fs::fsync;
use rustix::io::Errno;

use super::counters::{Call, Counters};
use super::errno::Cause;
use super::region::{Region, last_errno};
use super::rng::Rng;
use super::sigbus;
use super::stop_condition::StopCondition;
use super::sync::SyncMethod;

/// Number of consecutive failures that cause no pause.
const IMMEDIATE_RETRIES: u32 = 8;

/// The longest pause between two attempts, and so the longest delay of a stop.
const MAX_BACKOFF: Duration = Duration::from_millis(100);

type Failure = (Call, Cause);

/// Sizes are in bytes.
pub(super) struct Worker<'a> {
    pub(super) number: u32,
    pub(super) file: OwnedFd,
    pub(super) io_size: usize,
    /// Number of offsets that a write can have.
    pub(super) slots: u64,
    pub(super) sync: SyncMethod,
    pub(super) rng: Rng,
    pub(super) counters: &'a Counters,
    pub(super) stop_condition: &'a StopCondition<'a>,
}

impl Worker<'_> {
    /// Writes the first `io_size` bytes of `buffer` with `pwrite`, with a new stamp each time.
    pub(super) fn write(mut self, buffer: &Region) {
        let number = self.number;
        self.repeat(|worker, generation, offset| {
            buffer.fill(0, worker.io_size, stamp(number, generation));
            let written = buffer.write_to(&worker.file, worker.io_size, offset);
            written.map_err(|errno| (Call::Pwrite, errno.into()))?;
            worker.counters.wrote(worker.io_size as u64);
            match worker.sync {
                SyncMethod::SyncFileRange => sync_file_range(&worker.file, offset, worker.io_size)
                    .map_err(|errno| (Call::SyncFileRange, errno.into())),
                SyncMethod::Fsync => {
                    fsync(&worker.file).map_err(|errno| (Call::Fsync, errno.into()))
                }
                SyncMethod::None => Ok(()),
            }
        });
    }

    /// Stores to `mapping`, this worker's mapping of the file.
    pub(super) fn store(mut self, mapping: &Region) {
        let page = rustix::param::page_size();
        let number = self.number;
        sigbus::catch_faults(mapping);
        self.repeat(|worker, generation, offset| {
            // The offset lies within the mapping, so it fits into a usize.
            let offset =
                usize::try_from(offset).map_err(|_| (Call::Store, Errno::OVERFLOW.into()))?;
            mapping.fill(offset, worker.io_size, stamp(number, generation));
            if sigbus::take_fault() {
                let restored = mapping.restore(&worker.file);
                restored.map_err(|errno| (Call::Store, errno.into()))?;
                return Err((Call::Store, Cause::SIGBUS));
            }
            worker.counters.wrote(worker.io_size as u64);
            match worker.sync {
                SyncMethod::SyncFileRange => {
                    let start = offset & !(page - 1);
                    let synced = mapping.sync(start, worker.io_size + (offset - start));
                    synced.map_err(|errno| (Call::Msync, errno.into()))
                }
                SyncMethod::Fsync => {
                    fsync(&worker.file).map_err(|errno| (Call::Fsync, errno.into()))
                }
                SyncMethod::None => Ok(()),
            }
        });
    }

    /// Calls `step` with a generation and a random offset until the stop condition is met, and
    /// counts the outcomes.
    fn repeat(&mut self, mut step: impl FnMut(&Self, u64, u64) -> Result<(), Failure>) {
        let mut failures = 0_u32;
        let mut generation = 0;
        while !self.stop_condition.is_met() {
            let offset = self.rng.below(self.slots) * self.io_size as u64;
            match step(self, generation, offset) {
                Ok(()) => {
                    self.counters.completed();
                    failures = 0;
                }
                Err((call, cause)) => {
                    self.counters.failed(call, cause);
                    failures = failures.saturating_add(1);
                    if let Some(pause) = backoff(failures) {
                        thread::sleep(pause);
                    }
                }
            }
            generation = generation.wrapping_add(1);
        }
    }
}

/// Rewrites `buffer` until the stop condition is met, while the writers have it in flight.
pub(super) fn rewrite_in_flight(buffer: &Region, len: usize, stop_condition: &StopCondition<'_>) {
    let mut generation = 0;
    while !stop_condition.is_met() {
        buffer.fill(0, len, stamp(u32::from(u16::MAX), generation));
        generation = generation.wrapping_add(1);
    }
}

/// The worker in the upper 16 bits, the generation in the others: each word of a torn page shows
/// which worker wrote it.
const fn stamp(worker: u32, generation: u64) -> u64 {
    ((worker as u64) << 48) | (generation & ((1 << 48) - 1))
}

/// The pause after that many consecutive failures. Without it, a disk that rejects each request at
/// once would make the workload a busy loop.
fn backoff(failures: u32) -> Option<Duration> {
    let doublings = failures.checked_sub(IMMEDIATE_RETRIES)?;
    let pause = Duration::from_millis(1).checked_mul(1 << doublings.min(16));
    Some(pause.map_or(MAX_BACKOFF, |pause| pause.min(MAX_BACKOFF)))
}

/// Waits for writeback of the range that is under way, then starts writeback and waits for it.
fn sync_file_range(file: impl AsFd, offset: u64, len: usize) -> Result<(), Errno> {
    let (Ok(offset), Ok(len)) = (i64::try_from(offset), i64::try_from(len)) else {
        return Err(Errno::OVERFLOW);
    };
    let flags = libc::SYNC_FILE_RANGE_WAIT_BEFORE
        | libc::SYNC_FILE_RANGE_WRITE
        | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    // SAFETY: a system call on an open file that accesses no memory. rustix does not have it.
    let result = unsafe { libc::sync_file_range(file.as_fd().as_raw_fd(), offset, len, flags) };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_up_to_the_maximum() {
        assert_eq!(backoff(1), None);
        assert_eq!(backoff(7), None);
        assert_eq!(backoff(8), Some(Duration::from_millis(1)));
        assert_eq!(backoff(10), Some(Duration::from_millis(4)));
        assert_eq!(backoff(u32::MAX), Some(MAX_BACKOFF));
    }

    #[test]
    fn stamps_differ_by_worker_and_generation() {
        assert_ne!(stamp(1, 0), stamp(2, 0));
        assert_ne!(stamp(1, 0), stamp(1, 1));
        assert_eq!(stamp(1, 2), (1 << 48) | 2);
        assert_eq!(stamp(0, u64::MAX) >> 48, 0);
    }

    #[test]
    fn a_failed_sync_returns_the_errno() {
        let (reader, _writer) = rustix::pipe::pipe().unwrap();
        assert_eq!(sync_file_range(&reader, 0, 4096), Err(Errno::SPIPE));
    }
}
