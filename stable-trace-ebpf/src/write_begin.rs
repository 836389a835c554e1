//! Group `write_begin`: buffered writes, at the point where a written folio is given back.
//!
//! A writer holds the folio's lock from taking it until these functions run, and writeback starts
//! only under that lock (kernel.md, section 5; `folio_clear_dirty_for_io`, mm/page-writeback.c). So a
//! folio that is under writeback here was so for the whole copy. At the point where the folio is
//! taken the same look would be wrong: ext4 unlocks it once more.
//!
//! The enclosing write itself carries no probe: a wait's stack names it, for nothing while nobody
//! waits.

use aya_ebpf::{
    macros::{fentry, kprobe},
    programs::{FEntryContext, ProbeContext},
};
use stable_trace_common::unstable::WRITE_BEGIN;

use crate::{folio, unstable};

/// Pages of one btrfs write that are looked at: `prepare_pages` takes as many as 1 MiB of folios in
/// a batch, of which a program cannot look at all.
const BTRFS_PAGES: u64 = 16;

/// Both forms of the probe on one function. A program is made for each place of the argument,
/// because the verifier wants to see which one is read.
macro_rules! written {
    ($index:literal, $outer:literal, $fentry:ident, $kprobe:ident) => {
        /// The folio, or up to 6.1 the page, is the argument of that index.
        #[fentry]
        pub fn $fentry(ctx: FEntryContext) -> i32 {
            unstable::written(&ctx, folio::head(ctx.arg($index)), WRITE_BEGIN, $outer);
            0
        }

        /// The folio, or up to 6.1 the page, is the argument of that index.
        #[kprobe]
        pub fn $kprobe(ctx: ProbeContext) -> u32 {
            if let Some(folio) = ctx.arg($index) {
                unstable::written(&ctx, folio::head(folio), WRITE_BEGIN, $outer);
            }
            0
        }
    };
}

// `int block_write_end(struct file *, struct address_space *, loff_t pos, unsigned len, unsigned
// copied, struct page *page, void *)` (5.10, 6.1), with a folio (6.12);
// `int block_write_end(loff_t pos, unsigned len, unsigned copied, struct folio *folio)` (7.3).
// Others call it, so it may be the inner one.
written!(5, false, block_write_end_5, block_write_end_5_kprobe);
written!(3, false, block_write_end_3, block_write_end_3_kprobe);

// `int generic_write_end(struct file *, …, struct page *page, void *)` (5.10, 6.1), with a folio
// (6.12), with a kiocb and a folio (7.3): always the sixth.
written!(5, true, generic_write_end_5, generic_write_end_5_kprobe);

// `size_t iomap_write_end(struct inode *, loff_t, size_t len, size_t copied, struct page *page, …)`
// (5.10), `(struct iomap_iter *, loff_t, size_t, size_t, struct folio *)` (6.1, 6.12),
// `(struct iomap_iter *, size_t len, size_t copied, struct folio *)` (7.3).
written!(4, true, iomap_write_end_4, iomap_write_end_4_kprobe);
written!(3, true, iomap_write_end_3, iomap_write_end_3_kprobe);

/// `int btrfs_dirty_folio(struct btrfs_inode *, struct folio *folio, …)` [btrfs] (7.3).
#[kprobe]
pub fn btrfs_dirty_folio(ctx: ProbeContext) -> u32 {
    if let Some(folio) = ctx.arg(1) {
        unstable::written(&ctx, folio, WRITE_BEGIN, true);
    }
    0
}

/// `int btrfs_dirty_pages(struct btrfs_inode *, struct page **pages, size_t num_pages, …)` [btrfs]
/// (5.10 to 6.12).
#[kprobe]
pub fn btrfs_dirty_pages(ctx: ProbeContext) -> u32 {
    let (Some(pages), Some(count)) = (ctx.arg::<u64>(1), ctx.arg::<u64>(2)) else {
        return 0;
    };
    for index in 0..BTRFS_PAGES {
        if index >= count {
            break;
        }
        let Some(page) = unstable::pointer_at(pages + 8 * index) else {
            break;
        };
        unstable::written(&ctx, folio::head(page), WRITE_BEGIN, true);
    }
    0
}
