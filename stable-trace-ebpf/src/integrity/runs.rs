//! Grouping the pages of a failure into runs, and identifying the owner of each run.

use stable_trace_common::{
    folio::Folio,
    integrity::{ANONYMOUS, FILE, RUNS, UNOWNED},
};

use super::page_loop::{CONTINUE, LoopCtx, STOP};
use crate::{
    folio::{self, MAPPING_FLAGS},
    members::{member, offset, offsets},
};

/// Owner of a page that belongs neither to a file nor to a process.
const NO_OWNER: u64 = 0;
/// Owner of every anonymous page.
const ANONYMOUS_OWNER: u64 = 1;

/// `bpf_loop` callback: adds one page to the run before it if it continues that run, else to a new run.
pub(super) extern "C" fn group(index: u32, ctx: *mut LoopCtx) -> u64 {
    // SAFETY: the loop's caller owns both, and they outlive the loop.
    let walk = unsafe { &mut *(*ctx).walk };
    let Some(page) = walk.page(index) else {
        return STOP;
    };
    let head = folio::head_of_page(page);
    let mapping: u64 = member(head, &offsets().folio_mapping).unwrap_or(0);
    let base: u64 = member(head, &offsets().folio_index).unwrap_or(0);
    let bytes = u64::from(offset(&offsets().page_bytes));
    let owner = owner(mapping);
    let index = base + (page - head) / if bytes == 0 { 1 } else { bytes };
    let continues = walk.used.get() != 0
        && walk.last.get() == owner
        && (owner <= ANONYMOUS_OWNER || index == walk.last_index.get().wrapping_add(1));
    walk.last.set(owner);
    walk.last_index.set(index);
    if !continues {
        walk.used.set(walk.used.get() + 1);
    }
    let at = usize::try_from(walk.used.get().wrapping_sub(1)).unwrap_or(RUNS);
    let Some(run) = walk.runs.get_mut(at) else {
        return STOP;
    };
    if continues {
        run.count.set(run.count.get() + 1);
    } else {
        run.count.set(1);
        run.owner.set(owner);
        run.head.set(head);
        run.index.set(index);
    }
    CONTINUE
}

/// `bpf_loop` callback: writes one run to the record, with the identity of its owner.
pub(super) extern "C" fn describe(index: u32, ctx: *mut LoopCtx) -> u64 {
    // SAFETY: the loop's caller owns all of it, and it outlives the loop.
    let (walk, runs) = unsafe { (&*(*ctx).walk, &mut *(*ctx).runs) };
    if u64::from(index) >= walk.used.get() {
        return STOP;
    }
    let (Some(found), Some(run)) = (walk.runs.get(index as usize), runs.get_mut(index as usize))
    else {
        return STOP;
    };
    run.count = found.count.get();
    let owner = found.owner.get();
    if owner <= ANONYMOUS_OWNER {
        run.kind = if owner == ANONYMOUS_OWNER { ANONYMOUS } else { UNOWNED };
        return CONTINUE;
    }
    let mut first = Folio::UNKNOWN;
    if folio::identify(found.head.get(), owner, &mut first).is_some() {
        first.index = found.index.get();
        run.first = first;
        run.kind = FILE;
        run.stable = folio::stable_required(owner);
    }
    CONTINUE
}

/// The owner of a page by its `mapping`: the mapping itself if the page is a file's.
#[inline(always)]
fn owner(mapping: u64) -> u64 {
    // `PAGE_MAPPING_ANON`, include/linux/page-flags.h, 5.10 to 6.17, `FOLIO_MAPPING_ANON` later.
    if mapping & 1 == 1 {
        return ANONYMOUS_OWNER;
    }
    // Other users of `struct page` store something else in this word: a slab stores a list. Only the
    // mapping of an inode leads back to itself.
    let inode: u64 = member(mapping, &offsets().mapping_host).unwrap_or(0);
    let back: u64 = member(inode, &offsets().inode_mapping).unwrap_or(0);
    if mapping & MAPPING_FLAGS == 0 && mapping != 0 && back == mapping { mapping } else { NO_OWNER }
}
