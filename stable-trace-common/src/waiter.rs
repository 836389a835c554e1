//! A task that waits for writeback, from the first tracepoint to the moment it runs on.

use crate::{
    backing::Backing,
    record::{STALL, StallRecord, process_and_thread},
};

/// The folio that a task waits for, or writes to.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Folio {
    /// Inode of the file.
    pub ino: u64,
    /// Index of the folio's first page within the file.
    pub index: u64,
    /// What it belongs to.
    pub backing: Backing,
}

impl Folio {
    /// Nothing known.
    pub const UNKNOWN: Self = Self { ino: 0, index: 0, backing: Backing::NONE };
}

/// The tracepoint has fired; the task has not stopped running yet.
pub const ENTERED: u64 = 0;
/// It is off the CPU, inside the wait function.
pub const ASLEEP: u64 = 1;
/// It runs again, and may find the folio under writeback once more.
pub const AWAKE: u64 = 2;

/// One waiting task. The kernel removes it when the task next stops running outside the wait.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiter {
    /// What it waits for.
    pub folio: Folio,
    /// When the tracepoint fired: `CLOCK_MONOTONIC` in ns.
    pub begin_ns: u64,
    /// When it last ran again; 0 if it has not.
    pub end_ns: u64,
    /// Its stack at the tracepoint; 0 if not known.
    pub stack: u64,
    /// [`ENTERED`], [`ASLEEP`] or [`AWAKE`].
    pub phase: u64,
    /// `tgid` in the upper half, `pid` in the lower.
    pub pid_tgid: u64,
    /// Its cgroup (v2).
    pub cgroup_id: u64,
    /// Name of the thread, NUL-padded.
    pub comm: [u8; crate::record::COMM_LEN],
}

impl Waiter {
    /// The wait as a finished stall.
    #[must_use]
    #[inline]
    pub const fn to_record(&self) -> StallRecord {
        let (pid, tid) = process_and_thread(self.pid_tgid);
        StallRecord {
            kind: STALL,
            size: StallRecord::SIZE,
            end_ns: self.end_ns,
            duration_ns: self.end_ns.saturating_sub(self.begin_ns),
            ino: self.folio.ino,
            index: self.folio.index,
            cgroup_id: self.cgroup_id,
            stack: self.stack,
            pid,
            tid,
            comm: self.comm,
            backing: self.folio.backing,
        }
    }
}

const _: () = assert!(size_of::<Folio>() == 16 + size_of::<Backing>());
const _: () = assert!(size_of::<Waiter>() == size_of::<Folio>() + 6 * 8 + 16);
