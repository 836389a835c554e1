//! A task that waits for writeback, from the first tracepoint to the end of the wait.

use crate::{folio::Folio, task::COMM_LEN};

/// [`Waiter::phase`]: the tracepoint has fired, and the task has not been switched out yet.
pub const ENTERED: u64 = 0;
/// [`Waiter::phase`]: the task was switched out inside the wait function.
pub const ASLEEP: u64 = 1;
/// [`Waiter::phase`]: the task was switched in again. It may find the folio still under writeback.
pub const AWAKE: u64 = 2;

/// One waiting task: a value of the map `WAITERS`. The programs remove it when the wait ends.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiter {
    /// The folio under writeback.
    pub folio: Folio,
    /// Address of the folio; 0 if not known.
    pub address: u64,
    /// Address of the folio's inode; 0 if not known.
    pub inode: u64,
    /// When the tracepoint fired: `CLOCK_MONOTONIC` in ns.
    pub begin_ns: u64,
    /// When the task was last switched in, or returned: `CLOCK_MONOTONIC` in ns; 0 if it was not.
    pub end_ns: u64,
    /// The inner end of its stack at the tracepoint.
    pub stack_end: u64,
    /// Id of its stack at the tracepoint; 0 if not known.
    pub stack: u64,
    /// [`ENTERED`], [`ASLEEP`] or [`AWAKE`].
    pub phase: u64,
    /// `tgid` in the upper half, `pid` in the lower.
    pub pid_tgid: u64,
    /// Its cgroup (v2).
    pub cgroup_id: u64,
    /// Name of the thread, NUL-padded.
    pub comm: [u8; COMM_LEN],
    /// Name of the process, NUL-padded: that of its group leader, or of the thread if that cannot be read.
    pub process: [u8; COMM_LEN],
}

impl Waiter {
    /// A wait of which nothing is known yet.
    pub const NEW: Self = Self {
        folio: Folio::UNKNOWN,
        address: 0,
        inode: 0,
        begin_ns: 0,
        end_ns: 0,
        stack_end: 0,
        stack: 0,
        phase: ENTERED,
        pid_tgid: 0,
        cgroup_id: 0,
        comm: [0; COMM_LEN],
        process: [0; COMM_LEN],
    };
}

const _: () = assert!(size_of::<Waiter>() == size_of::<Folio>() + 9 * 8 + 2 * COMM_LEN);
