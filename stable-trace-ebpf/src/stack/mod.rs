//! Kernel stacks: recognising or walking them, storing them, and telling whether a task is inside the wait.

mod layout;

use aya_ebpf::{
    EbpfContext, Global,
    bindings::BPF_NOEXIST,
    helpers::bpf_get_stack,
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
use crate::maps::count;

/// Every distinct kernel stack, by [`Stack::id`].
#[map]
static STACKS: HashMap<u64, Stack> = HashMap::with_max_entries(4_096, 0);

/// Buffers that stacks are walked into, for [`AT_BEGIN`] and [`AT_SWITCH`]: the stack of a BPF program has only
/// 512 bytes.
#[map]
static STACK_BUFFERS: PerCpuArray<Stack> = PerCpuArray::with_max_entries(TABLES, 0);

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

/// What [`walk_and_store`] found.
struct Stored {
    /// The stack's id.
    id: u64,
    /// Whether no task had this stack before.
    new: bool,
    stack: &'static Stack,
}

/// The id of the current kernel stack, or of one whose inner frames are the same as far as they decide why
/// the task waits. 0 if it could not be walked or stored. `end` is its inner end.
#[inline(always)]
pub(crate) fn of_wait(ctx: &impl EbpfContext, end: u64) -> u64 {
    let known = layout::recognise(end, AT_BEGIN);
    if known != 0 {
        return known;
    }
    let Some(Stored { id, new, stack }) = walk_and_store(ctx) else {
        return 0;
    };
    count(Counter::StacksWalked);
    layout::sample(&Walked { end, begin_end: end, table: AT_BEGIN, stack, id, new });
    id
}

/// Stores the current kernel stack and returns its id; 0 if it could not be walked or stored.
#[inline(always)]
pub(crate) fn store_current(ctx: &impl EbpfContext) -> u64 {
    walk_and_store(ctx).map_or(0, |stored| stored.id)
}

/// Walks the current kernel stack and stores it. `None` if either failed.
#[inline(always)]
fn walk_and_store(ctx: &impl EbpfContext) -> Option<Stored> {
    let Some(stack) = walk(ctx, AT_BEGIN, FRAMES) else {
        count(Counter::StackFailed);
        return None;
    };
    let id = stack.id();
    if STACKS.get_ptr(id).is_some() {
        return Some(Stored { id, new: false, stack });
    }
    match STACKS.insert(id, stack, u64::from(BPF_NOEXIST)) {
        Ok(()) => Some(Stored { id, new: true, stack }),
        // Another CPU has just stored the same stack.
        Err(_) if STACKS.get_ptr(id).is_some() => Some(Stored { id, new: false, stack }),
        Err(_) => {
            count(Counter::StacksFull);
            None
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
    let Some(stack) = walk(ctx, AT_SWITCH, DEPTH_OF_WAIT) else {
        count(Counter::StackFailed);
        return false;
    };
    count(Counter::StacksWalked);
    for frame in stack.frames.iter().take(DEPTH_OF_WAIT) {
        if in_wait_text(*frame) {
            // The address in the function where a task was preempted is in its registers, which are elsewhere.
            if !preempted {
                // A task that has not left the function after all is reported always.
                let (table, id, new) = (AT_SWITCH, IN_WAIT, left);
                layout::sample(&Walked { end, begin_end, table, stack, id, new });
            }
            return true;
        }
    }
    false
}

/// Whether an address is in a function that waits sleep in.
#[inline(always)]
fn in_wait_text(address: u64) -> bool {
    let [start, end, other_start, other_end] = WAIT_TEXT.load();
    (address >= start && address < end) || (address >= other_start && address < other_end)
}

/// Walks the innermost `frames` of the current kernel stack into this CPU's slot, with zeros if there
/// are fewer. The slot's further frames are those of an earlier walk.
#[inline(always)]
fn walk(ctx: &impl EbpfContext, slot: u32, frames: usize) -> Option<&'static Stack> {
    let stack = STACK_BUFFERS.get_ptr_mut(slot)?;
    // SAFETY: the slot is a live map value of this type. No program that uses it interrupts another.
    // A program that is preempted may find it overwritten with the stack of another task.
    let stack = unsafe { &mut *stack };
    let buffer = stack.frames.get_mut(..frames)?;
    let size = u32::try_from(size_of_val(buffer)).ok()?;
    // The helper fills the frames after the last one with zeros (`__bpf_get_stack`, kernel/bpf/stackmap.c, 5.10
    // to 7.3).
    // SAFETY: the context is this program's, and the buffer has `size` bytes.
    let bytes = unsafe { bpf_get_stack(ctx.as_ptr(), buffer.as_mut_ptr().cast(), size, 0) };
    (bytes > 0).then_some(stack)
}
