//! Group `writeback_wait`, where BTF is available: the wait tracepoint begins a wait, the return of the
//! wait function ends it.
//!
//! The tracepoint fires only if the folio really is under writeback, so a call that does not wait
//! costs nothing here; its return costs one failed look-up.

use aya_ebpf::{
    helpers::bpf_get_current_task,
    macros::{fexit, kretprobe, raw_tracepoint},
    programs::{FExitContext, RawTracePointContext, RetProbeContext},
};
use stable_trace_common::folio::Folio;

use crate::{
    folio,
    wait::{self, Addresses},
};

/// `TP_PROTO(struct folio *folio, struct address_space *mapping)` of
/// `writeback:folio_wait_writeback` (5.16 to 7.3), and `(struct page *page, …)` of
/// `writeback:wait_on_page_writeback` (5.10). The page is a head page (`wait_on_page_writeback`,
/// mm/page-writeback.c, 5.10).
#[raw_tracepoint]
fn writeback_wait_begin_typed(ctx: RawTracePointContext) -> i32 {
    let now = wait::now();
    let address = ctx.arg(0);
    let mut waited = Folio::UNKNOWN;
    if let Some(inode) = folio::identify(address, ctx.arg(1), &mut waited) {
        // SAFETY: no pointer is involved.
        let task = unsafe { bpf_get_current_task() };
        wait::entered(&ctx, now, task, &waited, Addresses { folio: address, inode });
    }
    0
}

/// Makes the programs at the return of the wait function. An fexit program belongs to one function, so
/// each function has its own.
///
/// Each function has three. The kernel skips a program if another task is preempted inside it on the
/// same CPU (`prog->active`, kernel/bpf/trampoline.c, 5.12 to 7.3). On a kernel that preempts programs
/// the next one does the work of a skipped one; otherwise it finds nothing to do. The `_time` ones are so short that
/// few tasks are preempted inside them. What they wrote down is counted at the task's next wait, if both others
/// were skipped: with 64 waiting threads on an emulated 7.3, two programs missed 1 end in 120, and three like
/// them 1 in 45 where the machine's CPUs had other work too.
macro_rules! wait_end_probes {
    ($returned:ident: $($name:ident)*) => {
        $(
            /// `void folio_wait_writeback(struct folio *folio)` and
            /// `int folio_wait_writeback_killable(struct folio *folio)` (6.1 to 7.3),
            /// `void wait_on_page_writeback(struct page *page)` (5.10).
            #[fexit]
            fn $name(ctx: FExitContext) -> i32 {
                let folio = ctx.arg(0);
                // SAFETY: no pointer is involved.
                wait::$returned(unsafe { bpf_get_current_task() }, folio);
                0
            }
        )*
    };
}

wait_end_probes!(returned:
    writeback_wait_end
    writeback_wait_end_again
    writeback_wait_end_killable
    writeback_wait_end_killable_again
);

wait_end_probes!(returned_at:
    writeback_wait_end_time
    writeback_wait_end_killable_time
);

/// `void folio_wait_writeback(struct folio *folio)` and
/// `int folio_wait_writeback_killable(struct folio *folio)` (6.1 to 7.3),
/// `void wait_on_page_writeback(struct page *page)` (5.10). A kretprobe's program runs with preemption
/// off, so one is enough.
#[kretprobe]
fn writeback_wait_return(_ctx: RetProbeContext) -> u32 {
    // SAFETY: no pointer is involved.
    wait::returned(unsafe { bpf_get_current_task() }, 0);
    0
}

/// `TP_PROTO(struct task_struct *p)` of `sched:sched_process_free` (5.10 to 7.3; `delayed_put_task_struct`,
/// kernel/exit.c): after `sched_process_exit` a task may still wait, when it closes files. It runs in a soft interrupt,
/// so it is not preempted, and never skipped.
#[raw_tracepoint(tracepoint = "sched_process_free")]
fn writeback_wait_free(ctx: RawTracePointContext) -> i32 {
    wait::freed(ctx.arg(0));
    0
}
