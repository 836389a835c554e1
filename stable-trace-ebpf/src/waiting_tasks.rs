//! Every task that waits for writeback at this moment, also if it began to wait before any program was attached.
//!
//! A task that waits has a `struct wait_page_queue` on its stack: the folio, the bit, and an entry of a queue with the
//! task itself and the function that wakes it (`folio_wait_bit_common`, mm/filemap.c, 5.16 to 7.3;
//! `wait_on_page_bit_common`, 5.10 to 5.15).

use core::ffi::c_void;

use aya_ebpf::{
    Global,
    bindings::task_struct,
    helpers::{bpf_get_current_task, bpf_ktime_get_ns, generated::bpf_probe_read_kernel},
    macros::map,
    maps::PerCpuArray,
};
use stable_trace_common::{
    counter::Counter,
    folio::Folio,
    offsets::ABSENT,
    record::{StallRecord, WAITING},
};

use crate::{
    folio,
    maps::{EVENTS, count, wake_up},
    members::{as_number, offset, offsets, word, word_32},
    path, process, stack,
};

/// The address of the function that wakes a task that waits for a bit of a folio, from `/proc/kallsyms`:
/// `wake_page_function` (mm/filemap.c, 5.10 to 7.3).
#[unsafe(no_mangle)]
static WAKE_PAGE_FUNCTION: Global<u64> = Global::new(0);

/// Words of the inner end of a stack. The queue entry is in the fourth frame or so.
const WORDS: usize = 256;

/// Bytes that are read at once: no more than the registers and the frame of a system call have.
const PART: usize = 256;

const PARTS: usize = WORDS * 8 / PART;

/// The inner end of the stack of the task that is looked at.
#[map]
static WAITING_STACK: PerCpuArray<[u64; WORDS]> = PerCpuArray::with_max_entries(1, 0);

/// `TASK_UNINTERRUPTIBLE`, include/linux/sched.h, 5.10 to 7.3. Set in `TASK_KILLABLE` too.
const UNINTERRUPTIBLE: u32 = 2;

/// `struct bpf_iter__task { struct bpf_iter_meta *meta; struct task_struct *task; }` (`kernel/bpf/task_iter.c`, 5.10
/// to 7.3), each in 8 bytes. The task is null at the end.
#[repr(C)]
struct TaskIteration {
    meta: u64,
    task: *mut task_struct,
}

/// Runs once for each task of the reader's PID namespace (`bpf_iter_task`, `kernel/bpf/task_iter.c`, 5.10 to 7.3).
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
extern "C" fn waiting_tasks(iteration: *mut TaskIteration) -> i32 {
    // SAFETY: the kernel passes this structure.
    let task = unsafe { (*iteration).task };
    if !task.is_null() {
        inspect(task);
    }
    0
}

#[inline(always)]
fn inspect(task: *mut task_struct) {
    let Some(window) = WAITING_STACK.get_ptr_mut(0) else {
        return;
    };
    let address = as_number(task as u64, window.cast());
    if word_32(address, &offsets().task_state) & UNINTERRUPTIBLE == 0 {
        return;
    }
    let Some(folio) = folio_of(address, window) else {
        return;
    };
    let mut waited = Folio::UNKNOWN;
    let Some(inode) = folio::identify_any(folio, &mut waited) else {
        return;
    };
    path::send(inode, &waited);
    let stack = stack::of_task(task);
    let Some(mut entry) = EVENTS.reserve::<StallRecord>(0) else {
        count(Counter::Lost);
        return;
    };
    // SAFETY: no pointer is involved.
    let (now, own) = unsafe { (bpf_ktime_get_ns(), bpf_get_current_task()) };
    let comm = process::own_name(address);
    let leader = word(address, &offsets().task_group_leader);
    entry.write(StallRecord {
        kind: WAITING,
        size: StallRecord::SIZE,
        end_ns: now,
        duration_ns: since_ran(address, own),
        ino: waited.ino,
        index: waited.index,
        cgroup_id: cgroup(address),
        stack,
        pid: word_32(address, &offsets().task_tgid),
        tid: word_32(address, &offsets().task_pid),
        comm,
        process: process::own_name(leader),
        backing: waited.backing,
        subvolume: waited.subvolume,
        padding: 0,
    });
    entry.submit(wake_up());
}

/// Copies the inner end of a stack, which ends at this address. Of a stack that is shorter, the last part that reaches
/// beyond its outer end is missing: this has the registers and the frame of the system call, where no task waits.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "256")]
fn read_stack(end: u64, window: *mut [u64; WORDS]) {
    let mut part = 0;
    while part < PARTS {
        // SAFETY: the part is within the buffer, and the helper takes any address. It writes zeros where it fails.
        unsafe {
            bpf_probe_read_kernel(
                window.cast::<u8>().add(part * PART).cast(),
                PART as u32,
                (end + (part * PART) as u64) as *const c_void,
            );
        }
        part += 1;
    }
}

/// The folio for whose writeback a sleeping task waits. The stack of a task that has been woken meanwhile is read as it
/// changes: then nothing is found there, or what it has waited for until now.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "an `int` with padding behind it")]
fn folio_of(task: u64, window: *mut [u64; WORDS]) -> Option<u64> {
    let own = offsets();
    let [folio_at, bit_at, task_at, function_at] =
        [&own.wait_folio, &own.wait_bit, &own.wait_task, &own.wait_function].map(offset);
    let end = word(task, &offsets().task_sp);
    if end == 0 || [folio_at, bit_at, task_at, function_at].contains(&ABSENT) {
        return None;
    }
    read_stack(end, window);
    // SAFETY: a live map value that only this program uses.
    let window = unsafe { &*window };
    let at = |place: usize, member: u32| window[(place + member as usize / 8) & (WORDS - 1)];
    let wake = WAKE_PAGE_FUNCTION.load();
    let (mut folio, mut bit) = (0, 0);
    // Without branches, so that the verifier follows one way.
    for place in 0..WORDS {
        let differs = (at(place, task_at) ^ task) | (at(place, function_at) ^ wake);
        // All ones if nothing differs.
        let found = ((differs | differs.wrapping_neg()) >> 63).wrapping_sub(1);
        folio |= at(place, folio_at) & found;
        bit |= at(place, bit_at) & found;
    }
    let is_writeback = bit as u32 == offset(&offsets().pg_writeback);
    (folio != 0 && is_writeback).then_some(folio)
}

/// For how long a task has not run, in ns, by the scheduler's clock. `own`: the current task, which has come onto its CPU
/// a moment ago.
#[inline(always)]
fn since_ran(task: u64, own: u64) -> u64 {
    let [now, then] = [own, task].map(|task| word(task, &offsets().task_arrival));
    if now != 0 && then != 0 {
        return now.saturating_sub(then);
    }
    // Not kept by this kernel. This clock stands still during interrupts, on each CPU by itself (`update_rq_clock_task`,
    // kernel/sched/core.c, 5.10 to 7.3).
    let [now, then] = [own, task].map(|task| word(task, &offsets().task_exec_start));
    now.saturating_sub(then)
}

/// The id of a task's cgroup (v2): that of its folder's inode.
#[inline(always)]
fn cgroup(task: u64) -> u64 {
    let cgroups = word(task, &offsets().task_cgroups);
    let node = word(word(cgroups, &offsets().cgroups_default), &offsets().cgroup_node);
    word(node, &offsets().node_id)
}
