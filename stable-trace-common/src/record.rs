//! The records of the ring buffer.
//!
//! Every record begins with its kind and its size in bytes, so that a reader can tell what it
//! does not know and skip it.

/// `kind` of a [`StallRecord`].
pub const STALL: u32 = 1;

/// Bytes of a backing device's name: `__entry->name` of the tracepoint
/// `writeback:folio_wait_writeback` (include/trace/events/writeback.h, 6.18).
pub const BDI_NAME_LEN: usize = 32;

/// Bytes of a thread's name: `TASK_COMM_LEN` (include/linux/sched.h).
pub const COMM_LEN: usize = 16;

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
    /// Name of the backing device, NUL-padded.
    pub bdi: [u8; BDI_NAME_LEN],
}

impl StallRecord {
    /// Its size in bytes.
    #[expect(clippy::cast_possible_truncation, reason = "112")]
    pub const SIZE: u32 = size_of::<Self>() as u32;
}

const _: () = assert!(size_of::<StallRecord>() == 8 + 7 * 8 - 8 + 8 + COMM_LEN + BDI_NAME_LEN);
