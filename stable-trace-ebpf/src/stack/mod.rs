//! Kernel stacks: recognising or walking them, storing them, and telling whether a task is inside the wait.

mod layout;

use aya_ebpf::{
    EbpfContext, Global,
    bindings::{BPF_NOEXIST, task_struct},
    helpers::{bpf_get_stack, bpf_get_task_stack},
    macros::map,
    maps::{HashMap, PerCpuArray},
};
use stable_trace_common::{
    counter::Counter,
    layout::{AT_BEGIN, AT_SWITCH, TABLES},
    stack::{FRAMES, Stack},
};

pub(crate) use self::layout::OnStack;
use self::layout::Walked;
use crate::{maps::count, owner::Owner};

/// Every distinct kernel stack, by [`Stack::id`].
#[map]
static STACKS: HashMap<u64, Stack> = HashMap::with_max_entries(4_096, 0);

/// Buffers that stacks are walked into, for [`AT_BEGIN`] and [`AT_SWITCH`]: the stack of a BPF program has only
/// 512 bytes. One program uses each, and no other task runs that program on this CPU meanwhile.
#[map]
static STACK_BUFFERS: PerCpuArray<Stack> = PerCpuArray::with_max_entries(TABLES, 0);

/// The buffer for stacks of writers, which several programs share that may preempt each other.
#[map]
static WRITER_STACK_BUFFER: PerCpuArray<SharedBuffer> = PerCpuArray::with_max_entries(1, 0);

#[repr(C)]
struct SharedBuffer {
    owner: Owner,
    stack: Stack,
}

/// The machine code of the functions that a wait sleeps in, as `[start, end)` pairs, from
/// `/proc/kallsyms`: `folio_wait_writeback` and its killable variant, or `wait_on_page_writeback`
/// up to 5.15. Unused pairs are empty.
#[unsafe(no_mangle)]
static WAIT_TEXT: Global<[u64; 4]> = Global::new([0; 4]);

/// The id in a layout of a stack inside a wait function.
const IN_WAIT: u64 = 1;

/// Distance of the wait function from the innermost frame, at most: `__schedule`, `schedule`,
/// `io_schedule`, `folio_wait_bit_common`, `folio_wait_bit` and the tracer's own frames lie between.
const DEPTH_OF_WAIT: usize = 12;

/// The id of the current kernel stack, or of one whose inner frames are the same as far as they decide why
/// the task waits. 0 if it could not be walked or stored. `end` is its inner end.
#[inline(always)]
pub(crate) fn of_wait(ctx: &impl EbpfContext, end: u64) -> u64 {
    let known = layout::recognise(end, AT_BEGIN);
    if known != 0 {
        return known;
    }
    let Some(stack) = buffer(AT_BEGIN) else {
        return 0;
    };
    if !walk(ctx, stack, FRAMES) {
        return 0;
    }
    count(Counter::StacksWalked);
    let (id, new) = store(stack);
    if id != 0 {
        layout::sample(&Walked { end, begin_end: end, table: AT_BEGIN, stack, id, new });
    }
    id
}

/// Stores the current kernel stack, that of a writer, and returns its id; 0 if it could not be walked or stored.
#[inline(always)]
pub(crate) fn of_writer(ctx: &impl EbpfContext) -> u64 {
    let Some(buffer) = WRITER_STACK_BUFFER.get_ptr_mut(0) else {
        return 0;
    };
    // SAFETY: a live map value of this type, whose owner alone uses it.
    let buffer = unsafe { &mut *buffer };
    if !buffer.owner.take() {
        count(Counter::StackFailed);
        return 0;
    }
    let id = if walk(ctx, &mut buffer.stack, FRAMES) { store(&buffer.stack).0 } else { 0 };
    buffer.owner.release();
    id
}

/// Stores the kernel stack of another task, and returns its id; 0 if it could not be walked or stored.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "256")]
pub(crate) fn of_task(task: *mut task_struct) -> u64 {
    let Some(stack) = buffer(AT_BEGIN) else {
        return 0;
    };
    // SAFETY: the task is one that the kernel passed to the program, and the buffer has as many bytes.
    let walked = unsafe {
        bpf_get_task_stack(
            task,
            (&raw mut stack.frames).cast(),
            size_of_val(&stack.frames) as u32,
            0,
        )
    };
    if walked <= 0 {
        count(Counter::StackFailed);
        return 0;
    }
    store(stack).0
}

/// Stores a stack. Returns its id, 0 if there is no room, and whether no task had this stack before.
#[inline(always)]
fn store(stack: &Stack) -> (u64, bool) {
    let id = stack.id();
    if STACKS.get_ptr(id).is_some() {
        return (id, false);
    }
    match STACKS.insert(id, stack, u64::from(BPF_NOEXIST)) {
        Ok(()) => (id, true),
        // Another CPU has just stored the same stack.
        Err(_) if STACKS.get_ptr(id).is_some() => (id, false),
        Err(_) => {
            count(Counter::StacksFull);
            (0, false)
        }
    }
}

/// A task that is switched out.
pub(crate) struct SwitchedOut {
    /// The inner end of its stack when its wait began.
    pub(crate) begin_end: u64,
    /// It has slept in its wait.
    pub(crate) has_slept: bool,
    /// It could run on.
    pub(crate) preempted: bool,
}

/// Whether the current task is being switched out inside one of the functions that a wait sleeps in.
///
/// It distinguishes a task that sleeps until its folio is written from one that found the folio written
/// already and now sleeps for another reason.
#[inline(always)]
pub(crate) fn in_wait(ctx: &impl OnStack, task: &SwitchedOut) -> bool {
    let SwitchedOut { begin_end, has_slept, preempted } = *task;
    let end = ctx.stack_end();
    if layout::recognise(end, AT_SWITCH) != 0 {
        return true;
    }
    // Mostly the task has left the function, and its return address is gone. A task that is preempted between two
    // calls of the function has not left it, but nothing is there either. If it has slept, a further iteration
    // begins another wait; and it may be inside the function for its next wait, before that one has begun.
    let left =
        layout::wait_function_address(begin_end).is_some_and(|address| !in_wait_text(address));
    if left && if preempted { has_slept } else { !layout::is_checked() } {
        return false;
    }
    let Some(stack) = buffer(AT_SWITCH) else {
        return false;
    };
    if !walk(ctx, stack, DEPTH_OF_WAIT) {
        return false;
    }
    count(Counter::StacksWalked);
    if has_wait_function(&stack.frames[..DEPTH_OF_WAIT]) {
        // The address in the function where a task was preempted is in its registers, which are elsewhere.
        if !preempted {
            // A task that has not left the function after all is reported always.
            let (table, id, new) = (AT_SWITCH, IN_WAIT, left);
            layout::sample(&Walked { end, begin_end, table, stack, id, new });
        }
        return true;
    }
    // A task that is about to sleep first submits what it has plugged (`io_schedule_prepare`, kernel/sched/core.c, 5.10
    // to 7.3), and may be preempted deep in a driver.
    if left || stack.frames[DEPTH_OF_WAIT - 1] == 0 || !walk(ctx, stack, FRAMES) {
        return false;
    }
    if has_wait_function(&stack.frames[DEPTH_OF_WAIT..]) {
        return true;
    }
    if stack.frames[FRAMES - 1] != 0 {
        // Deeper than any stack of a wait that was seen: it is not known whether it goes on.
        count(Counter::StackFailed);
    }
    false
}

/// Whether one of these frames is in a function that waits sleep in.
#[inline(always)]
fn has_wait_function(frames: &[u64]) -> bool {
    frames.iter().any(|frame| in_wait_text(*frame))
}

/// Whether an address is in a function that waits sleep in.
#[inline(always)]
fn in_wait_text(address: u64) -> bool {
    let [start, end, other_start, other_end] = WAIT_TEXT.load();
    (address >= start && address < end) || (address >= other_start && address < other_end)
}

/// This CPU's buffer for the stacks of a table.
#[inline(always)]
fn buffer(table: u32) -> Option<&'static mut Stack> {
    let stack = STACK_BUFFERS.get_ptr_mut(table)?;
    // SAFETY: a live map value of this type, which only the running program uses.
    Some(unsafe { &mut *stack })
}

/// Walks the innermost `frames` of the current kernel stack into a buffer, with zeros if there are fewer. Further frames
/// stay as they are. False, and counted, if that failed.
#[inline(always)]
fn walk(ctx: &impl EbpfContext, stack: &mut Stack, frames: usize) -> bool {
    let walked = stack.frames.get_mut(..frames).map_or(0, |buffer| {
        #[expect(clippy::cast_possible_truncation, reason = "256 at most")]
        let size = size_of_val(buffer) as u32;
        // The helper fills the frames after the last one with zeros (`__bpf_get_stack`, kernel/bpf/stackmap.c, 5.10
        // to 7.3).
        // SAFETY: the context is this program's, and the buffer has `size` bytes.
        unsafe { bpf_get_stack(ctx.as_ptr(), buffer.as_mut_ptr().cast(), size, 0) }
    });
    if walked <= 0 {
        count(Counter::StackFailed);
    }
    walked > 0
}
