//! The method `tracepoint`: for kernels without kprobes that do not permit fentry.

use aya_ebpf::{
    Global,
    helpers::bpf_get_current_task,
    macros::{raw_tracepoint, tracepoint},
    programs::{RawTracePointContext, TracePointContext},
};
use stable_trace_common::{
    backing::{BY_BDI, Backing, NAME_LEN},
    folio::Folio,
};

use crate::wait;

/// Offset in bytes of the backing device's name in the record of the wait tracepoint, from
/// `events/writeback/…/format` of the running kernel.
#[unsafe(no_mangle)]
static WAIT_NAME_AT: Global<u32> = Global::new(0);
/// The same of the inode number.
#[unsafe(no_mangle)]
static WAIT_INO_AT: Global<u32> = Global::new(0);
/// The same of the page index.
#[unsafe(no_mangle)]
static WAIT_INDEX_AT: Global<u32> = Global::new(0);

/// `writeback:folio_wait_writeback`, `TP_PROTO(struct folio *folio, struct address_space *mapping)`
/// (6.18); up to 5.15 `writeback:wait_on_page_writeback`, `TP_PROTO(struct page *page, struct
/// address_space *mapping)`. Fires each time a task finds the folio under writeback, and never for
/// a call that does not wait.
#[tracepoint]
fn writeback_wait_begin(ctx: TracePointContext) -> u32 {
    // SAFETY: the offsets come from the running kernel's description of this record.
    let read = unsafe {
        (
            ctx.read_at::<[u8; NAME_LEN]>(WAIT_NAME_AT.load() as usize),
            ctx.read_at::<u64>(WAIT_INO_AT.load() as usize),
            ctx.read_at::<u64>(WAIT_INDEX_AT.load() as usize),
        )
    };
    if let (Ok(name), Ok(ino), Ok(index)) = read {
        let backing = Backing { kind: BY_BDI, dev: 0, name };
        // SAFETY: no pointer is involved.
        let task = unsafe { bpf_get_current_task() };
        wait::entered(&ctx, task, &Folio { ino, index, backing });
    }
    0
}

/// `sched_switch`, `TP_PROTO(bool preempt, struct task_struct *prev, struct task_struct *next, …)`
/// (5.10 to 7.3; only 5.18.0 had another argument before `prev`). Runs on the CPU of `prev`, which
/// is still the current task.
#[raw_tracepoint(tracepoint = "sched_switch")]
fn writeback_wait_switch(ctx: RawTracePointContext) -> i32 {
    let preempted = ctx.arg::<u64>(0) & 0xff != 0;
    wait::switched_out(&ctx, ctx.arg(1), preempted);
    wait::switched_in(ctx.arg(2));
    0
}
