//! Finding the pages of a failure in its bios.

use super::{
    bio::{BioPosition, own_iter, vec_element},
    page_loop::{CONTINUE, LoopCtx, STOP, Step},
    walk::PageWalk,
};
use crate::members::{offset, offsets, word, word_32};

/// Stores one page in the walk.
pub(super) struct Collect;

impl Step for Collect {
    #[inline(always)]
    fn take(index: u32, ctx: &mut LoopCtx) -> u64 {
        // SAFETY: the loop's caller owns them, and they outlive the loop.
        let walk = unsafe { &mut *ctx.walk };
        let Some(Part { page, .. }) = next_part(walk) else {
            return STOP;
        };
        let Some(slot) = walk.pages.get_mut(index as usize) else {
            return STOP;
        };
        slot.set(page);
        walk.found.set(u64::from(index) + 1);
        CONTINUE
    }
}

/// A part of the data within one page.
pub(super) struct Part {
    /// Address of the `struct page`.
    pub(super) page: u64,
    /// Bytes of the page before it.
    pub(super) in_page: u32,
    /// Its length in bytes.
    pub(super) length: u32,
}

/// The next part; `None` at the end.
#[inline(always)]
pub(super) fn next_part(walk: &mut PageWalk) -> Option<Part> {
    if walk.left.get() == 0 {
        return None;
    }
    if walk.size.get() == 0 {
        if walk.chained.get() == 0 {
            return None;
        }
        let bio = word(walk.bio.get(), &offsets().bio_next);
        walk.bio.set(bio);
        walk.vec.set(word(bio, &offsets().bio_vec));
        let position = BioPosition::at(bio, own_iter(bio));
        walk.size.set(position.size);
        walk.idx.set(position.idx);
        walk.done.set(position.done);
    }
    let element = vec_element(walk.vec.get(), u64::from(walk.idx.get()));
    let page = word(element, &offsets().vec_page);
    let start = word_32(element, &offsets().vec_offset);
    let len = word_32(element, &offsets().vec_len);
    let shift = offset(&offsets().page_shift) & 31;
    let at = start.wrapping_add(walk.done.get());
    let in_page = at & ((1 << shift) - 1);
    let step = ((1 << shift) - in_page).min(len.wrapping_sub(walk.done.get())).min(walk.size.get());
    if page == 0 || step == 0 {
        return None;
    }
    walk.size.set(walk.size.get() - step);
    walk.left.set(walk.left.get().saturating_sub(u64::from(step)));
    walk.done.set(walk.done.get() + step);
    if walk.done.get() >= len {
        walk.idx.set(walk.idx.get() + 1);
        walk.done.set(0);
    }
    // An element may have many pages, which are contiguous in memory.
    let page = page + u64::from(at >> shift) * u64::from(offset(&offsets().page_bytes));
    Some(Part { page, in_page, length: step })
}
