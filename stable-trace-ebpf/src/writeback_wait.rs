//! Group `writeback_wait`, where the kernel's types are known: the wait tracepoint begins, the
//! return of the wait function ends.
//!
//! The tracepoint fires only if the folio really is under writeback, so a call that does not wait
//! costs nothing here; its return costs one failed look-up.

use aya_ebpf::{
    helpers::bpf_get_current_task,
    macros::{fexit, kretprobe, raw_tracepoint},
    programs::{FExitContext, RawTracePointContext, RetProbeContext},
};

use crate::{folio, wait};

/// `TP_PROTO(struct folio *folio, struct address_space *mapping)` of
/// `writeback:folio_wait_writeback` (5.16 to 7.3), and `(struct page *page, …)` of
/// `writeback:wait_on_page_writeback` (5.10). The page is a head page (`wait_on_page_writeback`,
/// mm/page-writeback.c, 5.10).
#[raw_tracepoint]
pub fn writeback_wait_begin_typed(ctx: RawTracePointContext) -> i32 {
    let mut waited = folio::UNKNOWN;
    if folio::identify(ctx.arg(0), ctx.arg(1), &mut waited).is_some() {
        // SAFETY: no pointer is involved.
        let task = unsafe { bpf_get_current_task() };
        wait::entered(&ctx, task, &waited);
    }
    0
}

/// `void folio_wait_writeback(struct folio *folio)` (6.1 to 7.3),
/// `void wait_on_page_writeback(struct page *page)` (5.10).
#[fexit]
pub fn writeback_wait_end(_ctx: FExitContext) -> i32 {
    returned();
    0
}

/// `int folio_wait_writeback_killable(struct folio *folio)` (6.1 to 7.3). Loads once more, because
/// an fexit program belongs to one function.
#[fexit]
pub fn writeback_wait_end_killable(_ctx: FExitContext) -> i32 {
    returned();
    0
}

/// Any of them.
#[kretprobe]
pub fn writeback_wait_return(_ctx: RetProbeContext) -> u32 {
    returned();
    0
}

#[inline(always)]
fn returned() {
    // SAFETY: no pointer is involved.
    wait::returned(unsafe { bpf_get_current_task() });
}
