//! The records of the ring buffer.
//!
//! Every record begins with its kind and its size in bytes, so that a reader can tell what it
//! does not know and skip it.

use crate::{
    backing::Backing,
    integrity::{IntegrityKey, PageRun, RUNS},
    unstable::UnstableKey,
};

/// `kind` of a [`StallRecord`].
pub const STALL: u32 = 1;

/// `kind` of an [`UnstableRecord`].
pub const UNSTABLE: u32 = 2;

/// `kind` of an [`IntegrityRecord`].
pub const INTEGRITY: u32 = 3;

/// Bytes of a thread's name: `TASK_COMM_LEN` (include/linux/sched.h).
pub const COMM_LEN: usize = 16;

/// Process (`tgid`) and thread (`pid`) of what `bpf_get_current_pid_tgid` returns.
#[must_use]
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "two halves of a word")]
pub const fn process_and_thread(pid_tgid: u64) -> (u32, u32) {
    ((pid_tgid >> 32) as u32, pid_tgid as u32)
}

/// One stall, as it is written into the ring.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StallRecord {
    /// [`STALL`].
    pub kind: u32,
    /// Size of this record in bytes.
    pub size: u32,
    /// When the task ran again: `CLOCK_MONOTONIC` in ns.
    pub end_ns: u64,
    /// How long it had not, in ns.
    pub duration_ns: u64,
    /// Inode of the file.
    pub ino: u64,
    /// Index of the page within the file.
    pub index: u64,
    /// The waiter's cgroup (v2).
    pub cgroup_id: u64,
    /// Key into the map `STACKS`; 0 if the stack is not known.
    pub stack: u64,
    /// Process (`tgid`) of the waiter.
    pub pid: u32,
    /// Thread (`pid` in the kernel's words) of the waiter.
    pub tid: u32,
    /// Name of the waiter's thread, NUL-padded.
    pub comm: [u8; COMM_LEN],
    /// What the folio belongs to.
    pub backing: Backing,
}

impl StallRecord {
    /// Its size in bytes.
    #[expect(clippy::cast_possible_truncation, reason = "120")]
    pub const SIZE: u32 = size_of::<Self>() as u32;
}

/// One page given to a writer while under writeback, as it is written into the ring.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnstableRecord {
    /// [`UNSTABLE`].
    pub kind: u32,
    /// Size of this record in bytes.
    pub size: u32,
    /// When: `CLOCK_MONOTONIC` in ns.
    pub time_ns: u64,
    /// Inode of the file.
    pub ino: u64,
    /// Index of the folio's first page within the file.
    pub index: u64,
    /// The writer's cgroup (v2).
    pub cgroup_id: u64,
    /// Key into the map `STACKS`; 0 if the stack is not known.
    pub stack: u64,
    /// Process (`tgid`) of the writer.
    pub pid: u32,
    /// Thread (`pid` in the kernel's words) of the writer.
    pub tid: u32,
    /// Name of the writer's thread, NUL-padded.
    pub comm: [u8; COMM_LEN],
    /// What is counted with it: where, in which context, and whether it was forbidden.
    pub key: UnstableKey,
}

impl UnstableRecord {
    /// Its size in bytes.
    #[expect(clippy::cast_possible_truncation, reason = "120")]
    pub const SIZE: u32 = size_of::<Self>() as u32;
}

/// One integrity failure, as it is written into the ring.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntegrityRecord {
    /// [`INTEGRITY`].
    pub kind: u32,
    /// Size of this record in bytes.
    pub size: u32,
    /// When: `CLOCK_MONOTONIC` in ns.
    pub time_ns: u64,
    /// First sector of the failed part, in units of 512 bytes, counted on the whole disk.
    pub sector: u64,
    /// Length of the failed part, in units of 512 bytes.
    pub sectors: u64,
    /// Pages of the failed part.
    pub pages: u64,
    /// Process (`tgid`) that submitted it; 0 if not known.
    pub pid: u32,
    /// Thread (`pid` in the kernel's words) that submitted it; 0 if not known.
    pub tid: u32,
    /// Name of that thread, NUL-padded.
    pub comm: [u8; COMM_LEN],
    /// What is counted with it: disk, operation, check and source.
    pub key: IntegrityKey,
    /// Its pages in the order of the request; unused runs count 0. Fewer than `pages` if they did
    /// not fit.
    pub runs: [PageRun; RUNS],
}

impl IntegrityRecord {
    /// Its size in bytes.
    #[expect(clippy::cast_possible_truncation, reason = "656")]
    pub const SIZE: u32 = size_of::<Self>() as u32;
}

const _: () = assert!(
    size_of::<IntegrityRecord>()
        == 8 + 4 * 8 + 8 + COMM_LEN + size_of::<IntegrityKey>() + RUNS * size_of::<PageRun>()
);
const _: () = assert!(size_of::<StallRecord>() == 8 + 6 * 8 + 8 + COMM_LEN + size_of::<Backing>());
const _: () =
    assert!(size_of::<UnstableRecord>() == 8 + 5 * 8 + 8 + COMM_LEN + size_of::<UnstableKey>());
