//! The state of a walk over the pages of a failure.
//!
//! It is in a map and not on the stack. The verifier follows every value of a stack slot through every
//! iteration of a loop, and every combination of values. Of a map's memory it knows nothing, so each
//! iteration looks like the one before. What one iteration leaves to the next is in a [`VolatileCell`],
//! so that the compiler does not carry it in a register.

use aya_ebpf::{macros::map, maps::PerCpuArray};
use stable_trace_common::integrity::RUNS;

use super::{failure::Failure, volatile::VolatileCell};
use crate::{
    members::{member, offsets},
    owner::Owner,
};

/// Pages of a failure that are walked: 1 MiB. Most failures have fewer.
pub(super) const MAX_PAGES: u32 = 256;

/// Walks of failures: a slot for each kind of program.
#[map]
static PAGE_WALKS: PerCpuArray<PageWalk> = PerCpuArray::with_max_entries(SLOTS, 0);

/// The kinds of programs that see failures. A program of one kind may interrupt one of another.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(super) enum WalkSlot {
    Request = 0,
    Stacked = 1,
    Verify = 2,
    /// A request that another program was skipped for.
    RequestAgain = 3,
}

/// Number of kinds.
const SLOTS: u32 = 4;

/// The walk of one kind of program on one CPU.
#[repr(C)]
pub(super) struct PageWalk {
    /// A program that interrupts a walk, or preempts it, has none.
    owner: Owner,
    pub(super) bio: VolatileCell<u64>,
    /// Address of the bio's vector.
    pub(super) vec: VolatileCell<u64>,
    /// Bytes of the failure that are left.
    pub(super) left: VolatileCell<u64>,
    pub(super) size: VolatileCell<u32>,
    pub(super) idx: VolatileCell<u32>,
    pub(super) done: VolatileCell<u32>,
    pub(super) chained: VolatileCell<u32>,
    /// What is known of the submitters beside the first: 0 if they are the same.
    pub(super) submitters: VolatileCell<u64>,
    /// 1 if a part of the evidence of this failure had no room.
    pub(super) evidence_lost: VolatileCell<u64>,
    /// Number of pages that were found.
    pub(super) found: VolatileCell<u64>,
    /// Addresses of their `struct page`.
    pub(super) pages: [VolatileCell<u64>; MAX_PAGES as usize],
    /// Owner of the page before.
    pub(super) last: VolatileCell<u64>,
    /// Index within its file of the page before.
    pub(super) last_index: VolatileCell<u64>,
    /// Number of runs that are in use.
    pub(super) used: VolatileCell<u64>,
    pub(super) runs: [Run; RUNS],
}

/// Consecutive pages of one owner, before the owner is identified.
#[repr(C)]
pub(super) struct Run {
    /// Number of pages.
    pub(super) count: VolatileCell<u64>,
    /// Their mapping, or a value that stands for none.
    pub(super) owner: VolatileCell<u64>,
    /// The head of the first page.
    pub(super) head: VolatileCell<u64>,
    /// Index of the first page within its file.
    pub(super) index: VolatileCell<u64>,
}

impl PageWalk {
    /// Takes this CPU's walk of a slot; `None` if it is taken.
    #[inline(always)]
    pub(super) fn take(slot: WalkSlot) -> Option<&'static mut Self> {
        let walk = PAGE_WALKS.get_ptr_mut(slot as u32)?;
        // SAFETY: a live per-CPU map value of this type, whose owner alone uses it.
        let walk = unsafe { &mut *walk };
        walk.owner.take().then_some(walk)
    }

    /// Gives the walk back.
    #[inline(always)]
    pub(super) fn release(&mut self) {
        self.owner.release();
    }

    /// The page of that index; `None` after the last one.
    #[inline(always)]
    pub(super) fn page(&self, index: u32) -> Option<u64> {
        if u64::from(index) >= self.found.get() {
            return None;
        }
        self.pages.get(index as usize).map(VolatileCell::get)
    }

    /// Starts at the beginning of a failure.
    #[inline(always)]
    pub(super) fn begin(&mut self, failure: &Failure) {
        let position = &failure.position;
        self.bio.set(position.bio);
        self.vec.set(member(position.bio, &offsets().bio_vec).unwrap_or(0));
        self.left.set(failure.bytes);
        self.size.set(position.size);
        self.idx.set(position.idx);
        self.done.set(position.done);
        self.chained.set(position.chained);
        self.found.set(0);
        self.used.set(0);
    }
}
