//! The records of the ring buffer `EVENTS`.
//!
//! Every record begins with its kind and its size in bytes, so that a reader can skip a kind that it
//! does not know.

use crate::{
    backing::Backing,
    integrity::{IntegrityKey, PageRun, RUNS},
    task::{COMM_LEN, process_and_thread},
    unstable::UnstableKey,
    waiter::Waiter,
};

/// `kind` of a [`StallRecord`].
pub const STALL: u32 = 1;

/// `kind` of an [`UnstableRecord`].
pub const UNSTABLE: u32 = 2;

/// `kind` of an [`IntegrityRecord`].
pub const INTEGRITY: u32 = 3;

/// `kind` of a [`PathRecord`](crate::path::PathRecord).
pub const PATH: u32 = 4;

/// `kind` of a [`StackSample`](crate::layout::StackSample).
pub const STACK_SAMPLE: u32 = 5;

/// `kind` of a [`StallRecord`] of a wait that has not ended: the stall that it would be if it ended now.
pub const WAITING: u32 = 6;

/// One finished stall, or with [`WAITING`] one that is not.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StallRecord {
    /// [`STALL`] or [`WAITING`].
    pub kind: u32,
    /// Size of this record in bytes.
    pub size: u32,
    /// When the wait ended: `CLOCK_MONOTONIC` in ns.
    pub end_ns: u64,
    /// Length of the wait in ns.
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
    /// Thread (the kernel's `pid`) of the waiter.
    pub tid: u32,
    /// Name of the waiter's thread, NUL-padded.
    pub comm: [u8; COMM_LEN],
    /// Name of the waiter's process, NUL-padded: that of its group leader.
    pub process: [u8; COMM_LEN],
    /// The file system or device that the folio belongs to.
    pub backing: Backing,
    /// The anonymous device of the file's btrfs subvolume; 0 if there is none.
    pub subvolume: u32,
    /// Always 0.
    pub padding: u32,
}

impl StallRecord {
    /// Its size in bytes.
    #[expect(clippy::cast_possible_truncation, reason = "144")]
    pub const SIZE: u32 = size_of::<Self>() as u32;

    /// The wait as a finished stall.
    #[must_use]
    #[inline]
    pub const fn from_waiter(waiter: &Waiter) -> Self {
        let (pid, tid) = process_and_thread(waiter.pid_tgid);
        Self {
            kind: STALL,
            size: Self::SIZE,
            end_ns: waiter.end_ns,
            duration_ns: waiter.end_ns.saturating_sub(waiter.begin_ns),
            ino: waiter.folio.ino,
            index: waiter.folio.index,
            cgroup_id: waiter.cgroup_id,
            stack: waiter.stack,
            pid,
            tid,
            comm: waiter.comm,
            process: waiter.process,
            backing: waiter.folio.backing,
            subvolume: waiter.folio.subvolume,
            padding: 0,
        }
    }
}

/// One page given to a writer while under writeback.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnstableRecord {
    /// [`UNSTABLE`].
    pub kind: u32,
    /// Size of this record in bytes.
    pub size: u32,
    /// `CLOCK_MONOTONIC` in ns.
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
    /// Thread (the kernel's `pid`) of the writer.
    pub tid: u32,
    /// Name of the writer's thread, NUL-padded.
    pub comm: [u8; COMM_LEN],
    /// Name of the writer's process, NUL-padded: that of its group leader.
    pub process: [u8; COMM_LEN],
    /// Key of its count in `UNSTABLE_WRITES`.
    pub key: UnstableKey,
    /// The anonymous device of the file's btrfs subvolume; 0 if there is none.
    pub subvolume: u32,
    /// Always 0.
    pub padding: u32,
}

impl UnstableRecord {
    /// Its size in bytes.
    #[expect(clippy::cast_possible_truncation, reason = "144")]
    pub const SIZE: u32 = size_of::<Self>() as u32;
}

/// One integrity failure.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntegrityRecord {
    /// [`INTEGRITY`].
    pub kind: u32,
    /// Size of this record in bytes.
    pub size: u32,
    /// `CLOCK_MONOTONIC` in ns.
    pub time_ns: u64,
    /// First sector of the failed part, in units of 512 bytes, counted on the whole disk.
    pub sector: u64,
    /// Length of the failed part, in units of 512 bytes.
    pub sectors: u64,
    /// Pages of the failed part.
    pub pages: u64,
    /// When the request began, by the clock of `time_ns`; 0 if not known.
    pub began_ns: u64,
    /// Process (`tgid`) that submitted it; 0 if not known.
    pub pid: u32,
    /// Thread (the kernel's `pid`) that submitted it; 0 if not known.
    pub tid: u32,
    /// Name of that thread, NUL-padded; [`SEVERAL_COMM`], without numbers, if several processes submitted parts of it.
    pub comm: [u8; COMM_LEN],
    /// Key of its count in `INTEGRITY_ERRORS`.
    pub key: IntegrityKey,
    /// Its pages in the order of the request; unused runs have a count of 0. Together fewer than
    /// `pages` if there was no room for all.
    pub runs: [PageRun; RUNS],
}

/// [`IntegrityRecord::comm`] of a request that was merged from bios of several processes.
pub const SEVERAL_COMM: [u8; COMM_LEN] = *b"several\0\0\0\0\0\0\0\0\0";

impl IntegrityRecord {
    /// Its size in bytes.
    #[expect(clippy::cast_possible_truncation, reason = "728")]
    pub const SIZE: u32 = size_of::<Self>() as u32;
}

const _: () = assert!(
    size_of::<IntegrityRecord>()
        == 8 + 5 * 8 + 8 + COMM_LEN + size_of::<IntegrityKey>() + RUNS * size_of::<PageRun>()
);
const _: () =
    assert!(size_of::<StallRecord>() == 8 + 6 * 8 + 8 + 2 * COMM_LEN + size_of::<Backing>() + 8);
const _: () = assert!(
    size_of::<UnstableRecord>() == 8 + 5 * 8 + 8 + 2 * COMM_LEN + size_of::<UnstableKey>() + 8
);
