//! The states of a wait: entered, asleep, awake, finished.
//!
//! The wait function loops: `while (folio_test_writeback(folio)) { trace_folio_wait_writeback();
//! folio_wait_bit(folio, PG_writeback); }` (mm/page-writeback.c, 6.1 to 7.3; the same with pages
//! up to 5.15). The tracepoint fires once an iteration, and nothing reports the end.
//!
//! Where the function's return is probed, it ends the wait. Elsewhere the scheduler's switches tell: a
//! wait ends when its task was last switched in before it leaves the loop, and the task has left the
//! loop when it is next switched out outside the wait function, or waits for another folio.

use aya_ebpf::{
    Global,
    helpers::{bpf_get_current_cgroup_id, bpf_get_current_pid_tgid, bpf_ktime_get_ns},
};
use aya_log_ebpf::warn;
use stable_trace_common::{
    counter::Counter,
    folio::Folio,
    offsets::ABSENT,
    task::{COMM_LEN, process_and_thread},
    waiter::{ASLEEP, AWAKE, ENTERED, Waiter},
};

use crate::{
    filter,
    maps::count,
    members::{offset, offsets, read},
    process,
    stack::{self, OnStack, SwitchedOut},
    stall,
    waiters::{self, WAITERS},
};

/// 1: returns of the wait function end waits, not switches of tasks.
#[unsafe(no_mangle)]
static RETURNS_PROBED: Global<u32> = Global::new(0);

/// The time, `CLOCK_MONOTONIC` in ns. For the first line of a program that begins a wait: the task waits while
/// the program runs.
#[inline(always)]
pub(crate) fn now() -> u64 {
    // SAFETY: no pointer is involved.
    unsafe { bpf_ktime_get_ns() }
}

/// Where the structures of a folio are; 0 if not known.
#[derive(Clone, Copy)]
pub(crate) struct Addresses {
    pub(crate) folio: u64,
    pub(crate) inode: u64,
}

/// The current task has found its folio under writeback at `now`.
#[inline(always)]
pub(crate) fn entered(
    ctx: &impl OnStack,
    now: u64,
    task: u64,
    folio: &Folio,
    addresses: Addresses,
) {
    let pid_tgid = bpf_get_current_pid_tgid();
    let comm = filter::current_comm();
    if !filter::includes_wait(pid_tgid, &comm, &folio.backing) {
        return;
    }
    let stack_end = ctx.stack_end();
    let stack = stack::of_wait(ctx, stack_end);
    let waiter = if let Some(waiter) = WAITERS.get_ptr_mut(task) {
        // SAFETY: a live map value. Only probes in this task and its switches change it, and the task
        // is running here.
        let waiter = unsafe { &mut *waiter };
        if RETURNS_PROBED.load() != 0 {
            let same_task = waiter.pid_tgid == pid_tgid;
            if waiter.end_ns != 0 {
                // Only the programs that count and stream it were skipped.
                stall::finished(task);
            } else if same_task && waiter.folio == *folio && waiter.stack_end == stack_end {
                // Another iteration: the task was woken, and the folio is under writeback again.
                count(Counter::Repeated);
                return;
            } else {
                count(Counter::ReturnsMissed);
            }
            // The task may have another name since, or a new task the address of an old one.
            name(waiter, task, pid_tgid, comm);
        } else {
            if waiter.phase == AWAKE && waiter.folio == *folio && waiter.stack == stack {
                // Another iteration: the task was woken, and the folio is under writeback again.
                waiter.phase = ENTERED;
                // It may be another system call, whose stack begins at a random place
                // (`add_random_kstack_offset`, include/linux/randomize_kstack.h, 5.13 to 7.3).
                waiter.stack_end = stack_end;
                count(Counter::Repeated);
                return;
            }
            // If the task did not sleep in this iteration, it may have slept in one before.
            if waiter.end_ns == 0 {
                count(Counter::WithoutSleep);
            } else {
                stall::finished(task);
            }
        }
        waiter
    } else {
        let Some(waiter) = waiters::add(task) else {
            count(Counter::WaitersFull);
            let (_, thread) = process_and_thread(pid_tgid);
            warn!(ctx, "no room to follow the wait of thread {}", thread);
            return;
        };
        // SAFETY: as above.
        let waiter = unsafe { &mut *waiter };
        name(waiter, task, pid_tgid, comm);
        waiter
    };
    waiter.folio = *folio;
    waiter.address = addresses.folio;
    waiter.inode = addresses.inode;
    waiter.begin_ns = now;
    waiter.end_ns = 0;
    waiter.stack_end = stack_end;
    waiter.stack = stack;
    waiter.phase = ENTERED;
}

/// Says who waits: the current task.
#[inline(always)]
fn name(waiter: &mut Waiter, task: u64, pid_tgid: u64, comm: [u8; COMM_LEN]) {
    waiter.pid_tgid = pid_tgid;
    // SAFETY: no pointer is involved.
    waiter.cgroup_id = unsafe { bpf_get_current_cgroup_id() };
    waiter.comm = comm;
    waiter.process = comm;
    process::leader_name(task, pid_tgid, &mut waiter.process);
}

/// The wait function returns to the current task, which may not have waited at all. `folio`: the address that was
/// its argument; 0 if not known.
#[inline(always)]
pub(crate) fn returned(task: u64, folio: u64) {
    let Some(waiter) = waiters::get(task) else {
        return;
    };
    // SAFETY: a live map value. Only probes in this task change it.
    let waiter = unsafe { &mut *waiter };
    if waiter.end_ns != 0 || ends_here(waiter, folio) {
        if waiter.end_ns == 0 {
            waiter.end_ns = now();
        }
        stall::finished(task);
    } else {
        // Its return was missed, and this call has not waited: it would end a wait that is over.
        count(Counter::ReturnsMissed);
    }
    waiters::remove(task);
}

/// The same, but only writes the time down, in as few instructions as possible: another program counts the stall.
#[inline(always)]
pub(crate) fn returned_at(task: u64, folio: u64) {
    let Some(waiter) = waiters::get(task) else {
        return;
    };
    // SAFETY: a live map value. Only probes in this task change it.
    let waiter = unsafe { &mut *waiter };
    if waiter.end_ns == 0 && ends_here(waiter, folio) {
        waiter.end_ns = now();
    }
}

/// Nothing refers to a task any more, so if it has an entry, the return of the wait function was missed. Nothing else
/// would remove that.
#[inline(always)]
pub(crate) fn freed(task: u64) {
    let Some(waiter) = waiters::get(task) else {
        return;
    };
    // SAFETY: a live map value, whose task runs no more.
    if unsafe { (*waiter).end_ns } == 0 {
        count(Counter::ReturnsMissed);
    } else {
        // Only the programs that count and stream it were skipped.
        stall::finished(task);
    }
    waiters::remove(task);
}

/// Whether the return of a call for `folio` ends this wait.
#[inline(always)]
fn ends_here(waiter: &Waiter, folio: u64) -> bool {
    waiter.address == folio || waiter.address == 0 || folio == 0
}

/// The current task is switched out, voluntarily or because it is preempted.
#[inline(always)]
pub(crate) fn switched_out(ctx: &impl OnStack, task: u64, preempted: bool) {
    let Some(waiter) = waiters::get(task) else {
        return;
    };
    // SAFETY: a live map value. Only probes in this task and its switches change it.
    let waiter = unsafe { &mut *waiter };
    // A task that slept and now blocks outside `io_schedule` has left the wait. Its stack is not walked:
    // a walk is a quarter of the cost of a wait (6.18). On PREEMPT_RT, where locks sleep, a wait that
    // blocks on a lock before another iteration counts as two.
    let has_slept = waiter.phase == AWAKE;
    let out = has_slept && !preempted && !sleeps_for_io(task);
    let begin_end = waiter.stack_end;
    if !out && stack::in_wait(ctx, &SwitchedOut { begin_end, has_slept, preempted }) {
        waiter.phase = ASLEEP;
        return;
    }
    if waiter.end_ns == 0 {
        count(Counter::WithoutSleep);
    } else {
        stall::finished(task);
    }
    waiters::remove(task);
}

/// Whether a task that is switched out is in `io_schedule` (kernel/sched/core.c, 5.10 to 7.3), as waits
/// for writeback are (`folio_wait_bit_common`, mm/filemap.c). True if that cannot be read.
#[inline(always)]
fn sleeps_for_io(task: u64) -> bool {
    let bit = offset(&offsets().task_in_iowait);
    if bit == ABSENT {
        return true;
    }
    let byte = read::<u8>(task + u64::from(bit / 8));
    byte.map_or(true, |byte| byte >> (bit % 8) & 1 == 1)
}

/// A task is switched in.
#[inline(always)]
pub(crate) fn switched_in(task: u64) {
    let Some(waiter) = waiters::get(task) else {
        return;
    };
    // SAFETY: a live map value. The task does not run yet, so no probe in it changes the value.
    let waiter = unsafe { &mut *waiter };
    if waiter.phase == ASLEEP {
        waiter.end_ns = now();
        waiter.phase = AWAKE;
    }
}
