//! Group `page_mkwrite`: write faults, at the one function that calls every file system's handler.
//!
//! `static vm_fault_t do_page_mkwrite(struct vm_fault *vmf)` (5.10, 6.1),
//! `(struct vm_fault *vmf, struct folio *folio)` (6.12, 7.3), mm/memory.c. If it returns
//! `VM_FAULT_LOCKED` the folio is locked and its page table entry is about to become writable, so a
//! folio under writeback here will be changed while it is written.

use aya_ebpf::{
    bindings::BPF_ANY,
    helpers::bpf_get_current_task,
    macros::{fexit, kprobe, kretprobe, map},
    maps::LruHashMap,
    programs::{FExitContext, ProbeContext, RetProbeContext},
};
use stable_trace_common::{counter::Counter, unstable::PAGE_MKWRITE};

use crate::{
    folio,
    maps::count,
    members::{member, offsets},
    unstable::folio_written,
};

/// The folio of a write fault that is being handled, by `task_struct`. Only with a kretprobe, which
/// does not see the arguments. Where its instances ran out for a task that exits then, an entry is left, so the map
/// evicts the oldest.
#[map]
static FAULTS: LruHashMap<u64, u64> = LruHashMap::with_max_entries(16_384, 0);

/// `VM_FAULT_LOCKED`, `include/linux/mm_types.h`, 5.10 to 7.3 (also in BTF).
const VM_FAULT_LOCKED: u64 = 0x200;

/// `vm_fault_t` is an `unsigned int`: the upper half of the register is undefined.
const VM_FAULT_BITS: u64 = 0xffff_ffff;

/// `static vm_fault_t do_page_mkwrite(struct vm_fault *vmf)` (5.10, 6.1). The result is the argument
/// after the last.
#[fexit]
fn page_mkwrite_exit_1(ctx: FExitContext) -> i32 {
    if locked(ctx.arg(1)) {
        let page = member(ctx.arg(0), &offsets().vmf_page).unwrap_or(0);
        folio_written(&ctx, folio::head(page), PAGE_MKWRITE, true);
    }
    0
}

/// `static vm_fault_t do_page_mkwrite(struct vm_fault *vmf, struct folio *folio)` (6.12, 7.3).
#[fexit]
fn page_mkwrite_exit_2(ctx: FExitContext) -> i32 {
    if locked(ctx.arg(2)) {
        folio_written(&ctx, ctx.arg(1), PAGE_MKWRITE, true);
    }
    0
}

/// `static vm_fault_t do_page_mkwrite(struct vm_fault *vmf)` (5.10, 6.1).
#[kprobe]
fn page_mkwrite_enter_1(ctx: ProbeContext) -> u32 {
    let page = ctx.arg(0).and_then(|fault: u64| member(fault, &offsets().vmf_page));
    if let Some(page) = page {
        save(folio::head(page));
    }
    0
}

/// `static vm_fault_t do_page_mkwrite(struct vm_fault *vmf, struct folio *folio)` (6.12, 7.3).
#[kprobe]
fn page_mkwrite_enter_2(ctx: ProbeContext) -> u32 {
    if let Some(folio) = ctx.arg(1) {
        save(folio);
    }
    0
}

/// `static vm_fault_t do_page_mkwrite(struct vm_fault *vmf, …)` (5.10 to 7.3): the return of either.
#[kretprobe]
fn page_mkwrite_return(ctx: RetProbeContext) -> u32 {
    // SAFETY: no pointer is involved.
    let task = unsafe { bpf_get_current_task() };
    // SAFETY: a word that only probes in this task write.
    let Some(folio) = unsafe { FAULTS.get(task) }.copied() else {
        return 0;
    };
    // Cannot fail: the entry exists, and only this task's probes remove it.
    let _ = FAULTS.remove(task);
    if locked(ctx.ret()) {
        folio_written(&ctx, folio, PAGE_MKWRITE, true);
    }
    0
}

#[inline(always)]
fn locked(result: u64) -> bool {
    result & VM_FAULT_BITS & VM_FAULT_LOCKED != 0
}

#[inline(always)]
fn save(folio: u64) {
    // SAFETY: no pointer is involved.
    let task = unsafe { bpf_get_current_task() };
    if FAULTS.insert(task, folio, u64::from(BPF_ANY)).is_err() {
        count(Counter::FaultsFull);
    }
}
