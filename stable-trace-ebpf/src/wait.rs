//! The life of a wait as the scheduler sees it: entered, asleep, awake, and over.
//!
//! The wait function loops: `while (folio_test_writeback(folio)) { trace_folio_wait_writeback();
//! folio_wait_bit(folio, PG_writeback); }` (mm/page-writeback.c, 6.1 to 7.3; the same with pages
//! up to 5.15). The tracepoint fires once a turn and nothing tells the end. So a wait ends when its
//! task has run on without coming back: the last time it was switched in is the end, known for
//! certain when the task next stops elsewhere or waits for something else. Where the function's
//! return can be probed, that is the end, and none of this is needed.

use aya_ebpf::{
    EbpfContext,
    bindings::BPF_ANY,
    helpers::{
        bpf_get_current_cgroup_id, bpf_get_current_pid_tgid, bpf_ktime_get_ns,
        bpf_probe_read_kernel,
    },
};
use aya_log_ebpf::warn;
use stable_trace_common::{
    counter::Counter,
    offsets::ABSENT,
    record::process_and_thread,
    waiter::{ASLEEP, AWAKE, ENTERED, Folio, Waiter},
};

use crate::{
    emit, filter,
    folio::{offset, offsets},
    maps::{RETURNS_PROBED, WAITERS, count},
    stack,
};

/// The current task has found its folio under writeback.
#[inline(always)]
pub fn entered(ctx: &impl EbpfContext, task: u64, folio: &Folio) {
    let pid_tgid = bpf_get_current_pid_tgid();
    let comm = filter::current_comm();
    if !filter::wanted(pid_tgid, &comm) || !filter::wanted_device(&folio.backing) {
        return;
    }
    // First: the writeback goes on while we look at the stack, so that time is part of the wait.
    // SAFETY: no pointer is involved.
    let now = unsafe { bpf_ktime_get_ns() };
    let stack = stack::remember(ctx);
    if let Some(waiter) = WAITERS.get_ptr_mut(task) {
        // SAFETY: a live map value; only this task's own probes and its switches change it, and
        // the task is running here.
        let waiter = unsafe { &mut *waiter };
        if RETURNS_PROBED.load() != 0 {
            if waiter.folio == *folio {
                // The loop goes round: woken, and the folio is under writeback again.
                count(Counter::Repeated);
                return;
            }
            count(Counter::ReturnsMissed);
        } else if waiter.phase == AWAKE {
            if waiter.folio == *folio && waiter.stack == stack {
                // The loop goes round: woken, and the folio is under writeback again.
                waiter.phase = ENTERED;
                count(Counter::Repeated);
                return;
            }
            emit::stall(waiter);
        } else if waiter.end_ns != 0 {
            // It slept, came round the loop, and did not have to sleep again.
            emit::stall(waiter);
        } else {
            count(Counter::WithoutSleep);
        }
        waiter.folio = *folio;
        waiter.begin_ns = now;
        waiter.end_ns = 0;
        waiter.stack = stack;
        waiter.phase = ENTERED;
        return;
    }
    let waiter = Waiter {
        folio: *folio,
        begin_ns: now,
        end_ns: 0,
        stack,
        phase: ENTERED,
        pid_tgid,
        // SAFETY: no pointer is involved.
        cgroup_id: unsafe { bpf_get_current_cgroup_id() },
        comm,
    };
    if WAITERS.insert(task, waiter, u64::from(BPF_ANY)).is_err() {
        count(Counter::WaitersFull);
        let (_, thread) = process_and_thread(pid_tgid);
        warn!(ctx, "no room to follow the wait of thread {}", thread);
    }
}

/// The wait function returns to the current task, which may not have waited at all.
#[inline(always)]
pub fn returned(task: u64) {
    let Some(waiter) = WAITERS.get_ptr_mut(task) else {
        return;
    };
    // SAFETY: a live map value; only this task's own probes change it.
    let waiter = unsafe { &mut *waiter };
    // SAFETY: no pointer is involved.
    waiter.end_ns = unsafe { bpf_ktime_get_ns() };
    emit::stall(waiter);
    // It was there a moment ago and nobody else removes it.
    let _ = WAITERS.remove(task);
}

/// The current task stops running, because it wants to or because it is preempted.
#[inline(always)]
pub fn switched_out(ctx: &impl EbpfContext, task: u64, preempted: bool) {
    let Some(waiter) = WAITERS.get_ptr_mut(task) else {
        return;
    };
    // SAFETY: a live map value; only this task's own probes and its switches change it.
    let waiter = unsafe { &mut *waiter };
    // Who has slept and now stops for something else than I/O is out of the wait, and its stack need
    // not be walked: each walk is a quarter of what a wait costs (6.18). Where locks sleep
    // (PREEMPT_RT), a wait that stops for one and then goes round counts as two.
    let out = waiter.phase == AWAKE && !preempted && !sleeps_for_io(task);
    if !out && stack::in_wait(ctx) {
        waiter.phase = ASLEEP;
        return;
    }
    if waiter.end_ns == 0 {
        count(Counter::WithoutSleep);
    } else {
        emit::stall(waiter);
    }
    // It was there a moment ago and nobody else removes it.
    let _ = WAITERS.remove(task);
}

/// Whether a task that stops running does so in `io_schedule` (kernel/sched/core.c, 5.10 to 7.3), as
/// waits for writeback do (`folio_wait_bit_common`, mm/filemap.c); also if there is no telling.
#[inline(always)]
fn sleeps_for_io(task: u64) -> bool {
    let bit = offset(&offsets().task_in_iowait);
    if bit == ABSENT {
        return true;
    }
    // SAFETY: the helper takes any address, and fails on one that cannot be read.
    let byte = unsafe { bpf_probe_read_kernel((task + u64::from(bit / 8)) as *const u8) };
    byte.map_or(true, |byte| byte >> (bit % 8) & 1 == 1)
}

/// A task is about to run.
#[inline(always)]
pub fn switched_in(task: u64) {
    let Some(waiter) = WAITERS.get_ptr_mut(task) else {
        return;
    };
    // SAFETY: a live map value; the task is between its switches, so nothing else changes it.
    let waiter = unsafe { &mut *waiter };
    if waiter.phase == ASLEEP {
        // SAFETY: no pointer is involved.
        waiter.end_ns = unsafe { bpf_ktime_get_ns() };
        waiter.phase = AWAKE;
    }
}
