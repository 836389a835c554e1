//! Grouping the pages of a failure into runs, and identifying the owner of each run.

use stable_trace_common::{
    folio::Folio,
    integrity::{ANONYMOUS, FILE, RUNS, SHARED, SWAP, UNOWNED, WRITE},
    offsets::ABSENT,
};

use super::page_loop::{CONTINUE, LoopCtx, STOP, Step};
use crate::{
    folio::{self, MAPPING_FLAGS},
    members::{member, offset, offsets, word},
};

/// Owner of a page that belongs neither to a file nor to a process.
const NO_OWNER: u64 = 0;
/// Owner of every anonymous page.
const ANONYMOUS_OWNER: u64 = 1;
/// Owner of every page that is being swapped.
const SWAP_OWNER: u64 = 2;
/// Set in the address of a mapping whose page is a buffer of direct I/O.
const SHARED_FLAG: u64 = 1;

/// Adds one page to the run before it if it continues that run, else to a new run.
pub(super) struct Group;

impl Step for Group {
    #[inline(always)]
    fn take(index: u32, ctx: &mut LoopCtx) -> u64 {
        // SAFETY: the loop's caller owns them, and they outlive the loop.
        let (walk, failure) = unsafe { (&mut *ctx.walk, &*ctx.failure) };
        let Some(page) = walk.page(index) else {
            return STOP;
        };
        let head = folio::head_of_page(page);
        let base: u64 = member(head, &offsets().folio_index).unwrap_or(0);
        let bytes = u64::from(offset(&offsets().page_bytes));
        let owner = owner(page, head, failure.key.op);
        let index = base + (page - head) / if bytes == 0 { 1 } else { bytes };
        let continues = walk.used.get() != 0
            && walk.last.get() == owner
            && (owner <= SWAP_OWNER || index == walk.last_index.get().wrapping_add(1));
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
}

/// Writes one run to the record, with the identity of its owner.
pub(super) struct Describe;

impl Step for Describe {
    #[inline(always)]
    fn take(index: u32, ctx: &mut LoopCtx) -> u64 {
        // SAFETY: the loop's caller owns all of it, and it outlives the loop.
        let (walk, runs) = unsafe { (&*ctx.walk, &mut *ctx.runs) };
        if u64::from(index) >= walk.used.get() {
            return STOP;
        }
        let (Some(found), Some(run)) =
            (walk.runs.get(index as usize), runs.get_mut(index as usize))
        else {
            return STOP;
        };
        run.count = found.count.get();
        let owner = found.owner.get();
        if owner <= SWAP_OWNER {
            run.kind = match owner {
                ANONYMOUS_OWNER => ANONYMOUS,
                SWAP_OWNER => SWAP,
                _ => UNOWNED,
            };
            return CONTINUE;
        }
        let mapping = owner & !SHARED_FLAG;
        run.kind = if owner == mapping { FILE } else { SHARED };
        let mut first = Folio::UNKNOWN;
        if folio::identify(found.head.get(), mapping, &mut first).is_some() {
            first.index = found.index.get();
            run.first = first;
            run.stable = folio::stable_required(mapping);
        } else if run.kind == FILE {
            run.kind = UNOWNED;
        }
        CONTINUE
    }
}

/// The owner of a page by what its folio is in the middle of, and by its `mapping`. A page that has a mapping is
/// not always one that the request writes back or reads: a process may have mapped it, and use it as a
/// buffer of direct I/O.
#[inline(always)]
fn owner(page: u64, head: u64, op: u32) -> u64 {
    let flags = word(head, &offsets().folio_flags);
    // A folio is locked until it is read, and under writeback until it is written (`folio_end_read`,
    // mm/filemap.c, `folio_end_writeback`, mm/page-writeback.c, 5.10 to 7.3 under their names of the time).
    let busy = if op == WRITE { &offsets().pg_writeback } else { &offsets().pg_locked };
    let busy = flag(flags, busy);
    if busy && flag(flags, &offsets().pg_swapcache) {
        return SWAP_OWNER;
    }
    let mapping = word(head, &offsets().folio_mapping);
    // `PAGE_MAPPING_ANON`, include/linux/page-flags.h, 5.10 to 6.17, `FOLIO_MAPPING_ANON` later.
    if mapping & 1 == 1 {
        return ANONYMOUS_OWNER;
    }
    // Other users of `struct page` store something else in this word: a slab stores a list. Only the
    // mapping of an inode leads back to itself.
    let inode = word(mapping, &offsets().mapping_host);
    let back = word(inode, &offsets().inode_mapping);
    if mapping & MAPPING_FLAGS != 0 || mapping == 0 || back != mapping {
        return NO_OWNER;
    }
    if busy || offset(&offsets().page_mapcount) == ABSENT {
        return mapping;
    }
    if is_mapped(page, head) {
        return mapping | SHARED_FLAG;
    }
    // Metadata is written through buffers, without writeback of its page. Its writers are unknown.
    if op == WRITE { NO_OWNER } else { mapping }
}

/// Whether a bit of a folio's flags is set. False if this kernel does not have it.
#[inline(always)]
fn flag(flags: u64, bit: &'static u32) -> bool {
    let bit = offset(bit);
    bit < 64 && flags >> bit & 1 == 1
}

/// Whether a process has the page mapped. Both counts are -1 if not, and less in a page of another use.
#[inline(always)]
fn is_mapped(page: u64, head: u64) -> bool {
    let count = |structure, field| member::<i32>(structure, field).is_some_and(|count| count >= 0);
    count(page, &offsets().page_mapcount)
        || (page != head && count(head, &offsets().folio_large_mapcount))
}
