//! Group `page_mkwrite`: write faults, at the one place that calls every file system's handler.
//!
//! `static vm_fault_t do_page_mkwrite(struct vm_fault *vmf)` (5.10, 6.1),
//! `(struct vm_fault *vmf, struct folio *folio)` (6.12, 7.3), mm/memory.c. If it returns
//! `VM_FAULT_LOCKED` the folio is locked and its page table entry is about to become writable, so a
//! folio under writeback here will be changed while it is written.

use aya_ebpf::{
    bindings::BPF_ANY,
    helpers::bpf_get_current_task,
    macros::{fexit, kprobe, kretprobe},
    programs::{FExitContext, ProbeContext, RetProbeContext},
};
use stable_trace_common::{counter::Counter, unstable::PAGE_MKWRITE};

use crate::{
    folio::{self, member, offsets},
    maps::{FAULTS, count},
    unstable,
};

/// `VM_FAULT_LOCKED`, `include/linux/mm_types.h`, 5.10 to 7.3 (also in BTF).
const VM_FAULT_LOCKED: u64 = 0x200;

/// `vm_fault_t` is an `unsigned int`; the upper half of the register is not its.
const VM_FAULT_BITS: u64 = 0xffff_ffff;

/// With the fault alone: the result is the argument after it.
#[fexit]
pub fn page_mkwrite_exit_1(ctx: FExitContext) -> i32 {
    if locked(ctx.arg(1)) {
        let page = member(ctx.arg(0), &offsets().vmf_page).unwrap_or(0);
        unstable::written(&ctx, folio::head(page), PAGE_MKWRITE, true);
    }
    0
}

/// With the fault and its folio.
#[fexit]
pub fn page_mkwrite_exit_2(ctx: FExitContext) -> i32 {
    if locked(ctx.arg(2)) {
        unstable::written(&ctx, ctx.arg(1), PAGE_MKWRITE, true);
    }
    0
}

/// A kretprobe does not see the arguments: with the fault alone, its page is kept meanwhile.
#[kprobe]
pub fn page_mkwrite_enter_1(ctx: ProbeContext) -> u32 {
    let page = ctx.arg(0).and_then(|fault: u64| member(fault, &offsets().vmf_page));
    if let Some(page) = page {
        keep(folio::head(page));
    }
    0
}

/// The same with the fault and its folio.
#[kprobe]
pub fn page_mkwrite_enter_2(ctx: ProbeContext) -> u32 {
    if let Some(folio) = ctx.arg(1) {
        keep(folio);
    }
    0
}

/// The end of either.
#[kretprobe]
pub fn page_mkwrite_return(ctx: RetProbeContext) -> u32 {
    // SAFETY: no pointer is involved.
    let task = unsafe { bpf_get_current_task() };
    // SAFETY: a word, which only this task's own probes write.
    let Some(folio) = unsafe { FAULTS.get(task) }.copied() else {
        return 0;
    };
    // It was there a moment ago and nobody else removes it.
    let _ = FAULTS.remove(task);
    if locked(ctx.ret()) {
        unstable::written(&ctx, folio, PAGE_MKWRITE, true);
    }
    0
}

#[inline(always)]
fn locked(result: u64) -> bool {
    result & VM_FAULT_BITS & VM_FAULT_LOCKED != 0
}

#[inline(always)]
fn keep(folio: u64) {
    // SAFETY: no pointer is involved.
    let task = unsafe { bpf_get_current_task() };
    if FAULTS.insert(task, folio, u64::from(BPF_ANY)).is_err() {
        count(Counter::FaultsFull);
    }
}
