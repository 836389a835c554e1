//! Kernel stacks: walking them, storing them, and telling whether a task is inside the wait.

use aya_ebpf::{
    EbpfContext, Global,
    bindings::BPF_NOEXIST,
    helpers::bpf_get_stack,
    macros::map,
    maps::{HashMap, PerCpuArray},
};
use stable_trace_common::{
    counter::Counter,
    stack::{FRAMES, Stack},
};

use crate::maps::count;

/// Every distinct kernel stack, by [`Stack::id`].
#[map]
static STACKS: HashMap<u64, Stack> = HashMap::with_max_entries(4_096, 0);

/// Buffers that stacks are walked into: the stack of a BPF program has only 512 bytes.
#[map]
static STACK_BUFFERS: PerCpuArray<Stack> = PerCpuArray::with_max_entries(2, 0);

/// The machine code of the functions that a wait sleeps in, as `[start, end)` pairs, from
/// `/proc/kallsyms`: `folio_wait_writeback` and its killable variant, or `wait_on_page_writeback`
/// up to 5.15. Unused pairs are empty.
#[unsafe(no_mangle)]
static WAIT_TEXT: Global<[u64; 4]> = Global::new([0; 4]);

/// Slot of [`STACK_BUFFERS`] for stacks that are stored.
const STORED: u32 = 0;
/// Slot of [`STACK_BUFFERS`] for `sched_switch`.
const AT_SWITCH: u32 = 1;

/// Distance of the wait function from the innermost frame, at most: `__schedule`, `schedule`,
/// `io_schedule`, `folio_wait_bit_common`, `folio_wait_bit` and the tracer's own frames lie between.
const DEPTH_OF_WAIT: usize = 12;

/// Stores the current kernel stack and returns its id; 0 if it could not be walked or stored.
#[inline(always)]
pub(crate) fn store_current(ctx: &impl EbpfContext) -> u64 {
    let Some(stack) = walk(ctx, STORED, FRAMES) else {
        count(Counter::StackFailed);
        return 0;
    };
    let id = stack.id();
    if STACKS.get_ptr(id).is_some() {
        return id;
    }
    match STACKS.insert(id, stack, u64::from(BPF_NOEXIST)) {
        Ok(()) => id,
        // Another CPU has just stored the same stack.
        Err(_) if STACKS.get_ptr(id).is_some() => id,
        Err(_) => {
            count(Counter::StacksFull);
            0
        }
    }
}

/// Whether the current task is being switched out inside one of the functions that a wait sleeps in.
///
/// It distinguishes a task that sleeps until its folio is written from one that found the folio written
/// already and now sleeps for another reason.
#[inline(always)]
pub(crate) fn in_wait(ctx: &impl EbpfContext) -> bool {
    let Some(stack) = walk(ctx, AT_SWITCH, DEPTH_OF_WAIT) else {
        count(Counter::StackFailed);
        return false;
    };
    let [start, end, other_start, other_end] = WAIT_TEXT.load();
    for frame in stack.frames.iter().take(DEPTH_OF_WAIT) {
        if (*frame >= start && *frame < end) || (*frame >= other_start && *frame < other_end) {
            return true;
        }
    }
    false
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
