//! What one worker does until it is told to stop. The loop neither allocates nor locks.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::thread;
use std::time::Duration;

use rustix::fs::fsync;
use rustix::io::Errno;

use super::counters::{Call, Counters};
use super::errno::Cause;
use super::plan::Sync;
use super::region::{Region, last_errno};
use super::rng::Rng;
use super::sigbus;
use super::stop_condition::StopCondition;

/// Failures in a row that are answered by trying again at once.
const PATIENCE: u32 = 8;

/// The longest pause between two attempts, which also bounds how late a stop is noticed.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// What failed, and why.
type Failure = (Call, Cause);

/// A worker's share of the work. Sizes are bytes.
pub struct Worker<'a> {
    pub number: u32,
    pub file: OwnedFd,
    pub io_size: usize,
    pub slots: u64,
    pub sync: Sync,
    pub rng: Rng,
    pub counters: &'a Counters,
    pub stop_condition: &'a StopCondition<'a>,
}

impl Worker<'_> {
    /// Writes the first `io_size` bytes of `buffer`, stamped anew each time.
    pub fn write(mut self, buffer: &Region) {
        let number = self.number;
        self.repeat(|worker, generation, offset| {
            buffer.fill(0, worker.io_size, stamp(number, generation));
            let written = buffer.write_to(&worker.file, worker.io_size, offset);
            written.map_err(|errno| (Call::Pwrite, errno.into()))?;
            worker.counters.wrote(worker.io_size as u64);
            match worker.sync {
                Sync::SyncFileRange => sync_file_range(&worker.file, offset, worker.io_size)
                    .map_err(|errno| (Call::SyncFileRange, errno.into())),
                Sync::Fsync => fsync(&worker.file).map_err(|errno| (Call::Fsync, errno.into())),
                Sync::None => Ok(()),
            }
        });
    }

    /// Stores to `mapping`, which is this worker's own mapping of the file.
    pub fn store(mut self, mapping: &Region) {
        let page = rustix::param::page_size();
        let number = self.number;
        sigbus::guard(mapping);
        self.repeat(|worker, generation, offset| {
            // A mapping has no offset that does not fit: its length does.
            let offset =
                usize::try_from(offset).map_err(|_| (Call::Store, Errno::OVERFLOW.into()))?;
            mapping.fill(offset, worker.io_size, stamp(number, generation));
            if sigbus::take() {
                let restored = mapping.restore(&worker.file);
                restored.map_err(|errno| (Call::Store, errno.into()))?;
                return Err((Call::Store, Cause::SIGBUS));
            }
            worker.counters.wrote(worker.io_size as u64);
            match worker.sync {
                Sync::SyncFileRange => {
                    let start = offset & !(page - 1);
                    let synced = mapping.sync(start, worker.io_size + (offset - start));
                    synced.map_err(|errno| (Call::Msync, errno.into()))
                }
                Sync::Fsync => fsync(&worker.file).map_err(|errno| (Call::Fsync, errno.into())),
                Sync::None => Ok(()),
            }
        });
    }

    /// Does `step` with a generation and a random offset until `stop_condition` is due, and counts.
    fn repeat(&mut self, mut step: impl FnMut(&Self, u64, u64) -> Result<(), Failure>) {
        let mut failures = 0_u32;
        let mut generation = 0;
        while !self.stop_condition.is_due() {
            let offset = self.rng.below(self.slots) * self.io_size as u64;
            match step(self, generation, offset) {
                Ok(()) => {
                    self.counters.completed();
                    failures = 0;
                }
                Err((call, cause)) => {
                    self.counters.failed(call, cause);
                    failures = failures.saturating_add(1);
                    if let Some(pause) = pause(failures) {
                        thread::sleep(pause);
                    }
                }
            }
            generation = generation.wrapping_add(1);
        }
    }
}

/// Rewrites `buffer` without end, whoever has it in flight.
pub fn scribble(buffer: &Region, len: usize, stop_condition: &StopCondition<'_>) {
    let mut generation = 0;
    while !stop_condition.is_due() {
        buffer.fill(0, len, stamp(u32::from(u16::MAX), generation));
        generation = generation.wrapping_add(1);
    }
}

/// Worker in the upper 16 bits, generation below: a torn page shows who tore it, word by word.
const fn stamp(worker: u32, generation: u64) -> u64 {
    ((worker as u64) << 48) | (generation & ((1 << 48) - 1))
}

/// How long to wait after so many failures in a row: a disk that refuses everything at once must not
/// turn the workload into a busy loop.
fn pause(failures: u32) -> Option<Duration> {
    let doublings = failures.checked_sub(PATIENCE)?;
    let pause = Duration::from_millis(1).checked_mul(1 << doublings.min(16));
    Some(pause.map_or(LONGEST_PAUSE, |pause| pause.min(LONGEST_PAUSE)))
}

/// Starts write-back of the range and waits for it, and before that for one that is under way.
fn sync_file_range(file: impl AsFd, offset: u64, len: usize) -> Result<(), Errno> {
    let (Ok(offset), Ok(len)) = (i64::try_from(offset), i64::try_from(len)) else {
        return Err(Errno::OVERFLOW);
    };
    let flags = libc::SYNC_FILE_RANGE_WAIT_BEFORE
        | libc::SYNC_FILE_RANGE_WRITE
        | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    // SAFETY: a system call on an open file; no memory is involved. rustix does not have it.
    let result = unsafe { libc::sync_file_range(file.as_fd().as_raw_fd(), offset, len, flags) };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_then_longer_and_longer_pauses() {
        assert_eq!(pause(1), None);
        assert_eq!(pause(7), None);
        assert_eq!(pause(8), Some(Duration::from_millis(1)));
        assert_eq!(pause(10), Some(Duration::from_millis(4)));
        assert_eq!(pause(u32::MAX), Some(LONGEST_PAUSE));
    }

    #[test]
    fn stamps_differ_by_worker_and_generation() {
        assert_ne!(stamp(1, 0), stamp(2, 0));
        assert_ne!(stamp(1, 0), stamp(1, 1));
        assert_eq!(stamp(1, 2), (1 << 48) | 2);
        assert_eq!(stamp(0, u64::MAX) >> 48, 0);
    }

    #[test]
    fn a_failing_sync_says_why() {
        let (reader, _writer) = rustix::pipe::pipe().unwrap();
        assert_eq!(sync_file_range(&reader, 0, 4096), Err(Errno::SPIPE));
    }
}
