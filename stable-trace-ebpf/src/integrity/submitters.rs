//! Whether the bios of a merged request were submitted by several processes.

use super::{
    bio::own_iter,
    page_loop::{CONTINUE, LoopCtx, STOP, Step},
    submit::submitter_of,
};
use crate::members::{offsets, word, word_32};

/// Bios of a failure that are compared.
const MOST: u32 = 16;

/// [`PageWalk::submitters`](super::walk::PageWalk::submitters): they differ.
pub(super) const SEVERAL: u64 = 1;
/// The same: one of them is not known.
pub(super) const SOME_UNKNOWN: u64 = 2;

/// Compares the submitter of one bio with that of the first, from the begin of a failure on.
pub(super) struct CompareSubmitters;

impl Step for CompareSubmitters {
    #[inline(always)]
    fn take(index: u32, ctx: &mut LoopCtx) -> u64 {
        // SAFETY: the loop's caller owns them, and they outlive the loop.
        let (walk, failure) = unsafe { (&mut *ctx.walk, &*ctx.failure) };
        let bio = walk.bio.get();
        if index >= MOST || bio == 0 || walk.left.get() == 0 {
            return STOP;
        }
        let sector =
            if index == 0 { failure.sector } else { word(own_iter(bio), &offsets().iter_sector) };
        let process = submitter_of(bio, sector).map_or(0, |submitter| submitter.pid_tgid >> 32);
        if index == 0 {
            walk.last.set(process);
        } else if process != walk.last.get() {
            walk.submitters.set(if process == 0 { SOME_UNKNOWN } else { SEVERAL });
            return STOP;
        }
        if walk.chained.get() == 0 || process == 0 {
            return STOP;
        }
        walk.left.set(walk.left.get().saturating_sub(u64::from(walk.size.get())));
        let next = word(bio, &offsets().bio_next);
        walk.bio.set(next);
        walk.size.set(word_32(own_iter(next), &offsets().iter_size));
        CONTINUE
    }
}
