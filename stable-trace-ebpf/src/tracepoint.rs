//! The wait tracepoint by its record, and the switches of tasks.
//!
//! The record has no super block. It is read where the kernel has no BTF, and where a program that reads
//! the tracepoint's arguments can be preempted, so that its runs for other tasks are skipped: there such
//! a program only identifies the folio for the one that reads the record, which is never skipped.

use aya_ebpf::{
    Global,
    bindings::BPF_ANY,
    helpers::bpf_get_current_task,
    macros::{map, raw_tracepoint, tracepoint},
    maps::LruHashMap,
    programs::{RawTracePointContext, TracePointContext},
};
use stable_trace_common::{
    backing::{BY_BDI, Backing, FS_LEN, NAME_LEN},
    folio::Folio,
};

use crate::{
    folio,
    wait::{self, Addresses},
};

/// A folio that a task is about to wait for.
#[repr(C)]
#[derive(Clone, Copy)]
struct IdentifiedFolio {
    folio: Folio,
    /// Address of its inode; 0 for swap.
    inode: u64,
    /// Its own address.
    address: u64,
}

/// What [`writeback_wait_identify`] has found, by `task_struct`.
#[map]
static IDENTIFIED: LruHashMap<u64, IdentifiedFolio> = LruHashMap::with_max_entries(16_384, 0);

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
    let now = wait::now();
    // SAFETY: the offsets come from the running kernel's description of this record.
    let read = unsafe {
        (
            ctx.read_at::<[u8; NAME_LEN]>(WAIT_NAME_AT.load() as usize),
            ctx.read_at::<u64>(WAIT_INO_AT.load() as usize),
            ctx.read_at::<u64>(WAIT_INDEX_AT.load() as usize),
        )
    };
    if let (Ok(name), Ok(ino), Ok(index)) = read {
        // SAFETY: no pointer is involved.
        let task = unsafe { bpf_get_current_task() };
        let backing = Backing { kind: BY_BDI, dev: 0, fs: [0; FS_LEN], name };
        let mut waited = Folio { ino, index, backing, subvolume: 0, padding: 0 };
        let mut addresses = Addresses { folio: 0, inode: 0 };
        // SAFETY: only programs in this task write the value.
        if let Some(identified) = unsafe { IDENTIFIED.get(task) } {
            // Of an earlier wait if every identifying program was skipped for this one. The record of a
            // wait for swap has another index.
            if identified.folio.ino == ino
                && (identified.folio.index == index || identified.inode == 0)
            {
                waited = identified.folio;
                addresses = Addresses { folio: identified.address, inode: identified.inode };
            }
            // Fails only if the entry was evicted just now.
            let _ = IDENTIFIED.remove(task);
        }
        wait::entered(&ctx, now, task, &waited, addresses);
    }
    0
}

/// Makes programs that identify the folio of a wait before [`writeback_wait_begin`] runs. Five: each may be
/// skipped while another task is preempted inside it on the same CPU. Of three, all were skipped for one wait in
/// some 1,500 of a busy emulated CPU (7.3).
macro_rules! identify_probes {
    ($($name:ident)*) => {
        $(
            /// `TP_PROTO(struct folio *folio, struct address_space *mapping)` of
            /// `writeback:folio_wait_writeback` (5.16 to 7.3).
            #[raw_tracepoint]
            fn $name(ctx: RawTracePointContext) -> i32 {
                identify(&ctx);
                0
            }
        )*
    };
}

identify_probes!(
    writeback_wait_identify
    writeback_wait_identify_2
    writeback_wait_identify_3
    writeback_wait_identify_4
    writeback_wait_identify_5
);

#[inline(always)]
fn identify(ctx: &RawTracePointContext) {
    // SAFETY: no pointer is involved.
    let task = unsafe { bpf_get_current_task() };
    let address = ctx.arg(0);
    // SAFETY: only programs in this task write the value.
    if unsafe { IDENTIFIED.get(task) }.is_some_and(|known| known.address == address) {
        // An earlier program has identified it.
        return;
    }
    let mut identified = IdentifiedFolio { folio: Folio::UNKNOWN, inode: 0, address };
    if let Some(inode) = folio::identify(address, ctx.arg(1), &mut identified.folio) {
        identified.inode = inode;
        // An LRU map evicts another entry if it is full; a wait without an entry keeps the identity of
        // its record.
        let _ = IDENTIFIED.insert(task, identified, u64::from(BPF_ANY));
    }
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
