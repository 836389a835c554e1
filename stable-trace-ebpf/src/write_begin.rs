//! Group `write_begin`: buffered writes, at the functions that release a written folio.
//!
//! A writer holds the folio's lock from taking it until these functions run, and writeback starts
//! only under that lock (`folio_clear_dirty_for_io`, mm/page-writeback.c). So a folio that is under
//! writeback here was so during the whole copy. Where the folio is taken the same check would be
//! wrong: ext4 unlocks it once more.
//!
//! The enclosing write carries no probe: the stack of a wait names it, at no cost to writes that do
//! not wait.

use aya_ebpf::{
    macros::{fentry, kprobe},
    programs::{FEntryContext, ProbeContext},
};
use stable_trace_common::unstable::WRITE_BEGIN;

use crate::{
    folio,
    unstable::{folio_written, pages_written},
};

/// Both forms of the probe on one function. Each position of the argument has its own programs: the
/// verifier requires a constant one.
macro_rules! write_end_probes {
    ($index:literal, $outer:literal, $fentry:ident, $kprobe:ident) => {
        /// Argument `$index` is the folio, or the page up to 6.1.
        #[fentry]
        fn $fentry(ctx: FEntryContext) -> i32 {
            folio_written(&ctx, folio::head(ctx.arg($index)), WRITE_BEGIN, $outer);
            0
        }

        /// Argument `$index` is the folio, or the page up to 6.1.
        #[kprobe]
        fn $kprobe(ctx: ProbeContext) -> u32 {
            if let Some(folio) = ctx.arg($index) {
                folio_written(&ctx, folio::head(folio), WRITE_BEGIN, $outer);
            }
            0
        }
    };
}

// `int block_write_end(struct file *, struct address_space *, loff_t pos, unsigned len, unsigned
// copied, struct page *page, void *)` (5.10, 6.1), with a folio (6.12);
// `int block_write_end(loff_t pos, unsigned len, unsigned copied, struct folio *folio)` (7.3).
// Other probed functions call it, so it may be the inner one.
write_end_probes!(5, false, block_write_end_5, block_write_end_5_kprobe);
write_end_probes!(3, false, block_write_end_3, block_write_end_3_kprobe);

// `int generic_write_end(struct file *, …, struct page *page, void *)` (5.10, 6.1), with a folio
// (6.12), with a kiocb and a folio (7.3): always the sixth.
write_end_probes!(5, true, generic_write_end_5, generic_write_end_5_kprobe);

// `size_t iomap_write_end(struct inode *, loff_t, size_t len, size_t copied, struct page *page, …)`
// (5.10), `(struct iomap_iter *, loff_t, size_t, size_t, struct folio *)` (6.1, 6.12),
// `(struct iomap_iter *, size_t len, size_t copied, struct folio *)` (7.3).
write_end_probes!(4, true, iomap_write_end_4, iomap_write_end_4_kprobe);
write_end_probes!(3, true, iomap_write_end_3, iomap_write_end_3_kprobe);

/// `int btrfs_dirty_folio(struct btrfs_inode *, struct folio *folio, …)` [btrfs] (7.3).
#[kprobe]
fn btrfs_dirty_folio(ctx: ProbeContext) -> u32 {
    if let Some(folio) = ctx.arg(1) {
        folio_written(&ctx, folio, WRITE_BEGIN, true);
    }
    0
}

/// `int btrfs_dirty_pages(struct btrfs_inode *, struct page **pages, size_t num_pages, …)` [btrfs]
/// (5.10 to 6.12).
#[kprobe]
fn btrfs_dirty_pages(ctx: ProbeContext) -> u32 {
    let (Some(pages), Some(count)) = (ctx.arg::<u64>(1), ctx.arg::<u64>(2)) else {
        return 0;
    };
    pages_written(&ctx, pages, count, WRITE_BEGIN);
    0
}
