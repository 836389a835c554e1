//! Kernel stacks: walking them, naming them, and asking whether a task is inside the wait.

use aya_ebpf::{EbpfContext, bindings::BPF_NOEXIST, helpers::bpf_get_stack};
use stable_trace_common::{
    counter::Counter,
    stack::{FRAMES, Stack},
};

use crate::maps::{SCRATCH, STACKS, WAIT_TEXT, count};

/// Slot of [`SCRATCH`] that belongs to the wait tracepoint.
const AT_BEGIN: u32 = 0;
/// Slot of [`SCRATCH`] that belongs to `sched_switch`.
const AT_SWITCH: u32 = 1;

/// How far from the innermost frame the wait function can be: `__schedule`, `schedule`,
/// `io_schedule`, `folio_wait_bit_common`, `folio_wait_bit` and the tracer's own frames lie between.
const DEPTH_OF_WAIT: usize = 12;

/// Bytes of a frame: its return address.
const FRAME_BYTES: usize = size_of::<u64>();

/// Keeps the current kernel stack and returns its name; 0 if it could not be had or kept.
#[inline(always)]
pub fn remember(ctx: &impl EbpfContext) -> u64 {
    let Some(stack) = walk(ctx, AT_BEGIN, FRAMES) else {
        count(Counter::StackFailed);
        return 0;
    };
    let id = stack.id();
    if STACKS.get_ptr(id).is_some() {
        return id;
    }
    match STACKS.insert(id, stack, u64::from(BPF_NOEXIST)) {
        Ok(()) => id,
        // Another CPU was first: the same stack is there.
        Err(_) if STACKS.get_ptr(id).is_some() => id,
        Err(_) => {
            count(Counter::StacksFull);
            0
        }
    }
}

/// Whether the current task is stopping inside one of the functions that a wait sleeps in.
///
/// This is what tells a task that sleeps for its folio from one that found the folio written back
/// already and now sleeps for something else.
#[inline(always)]
pub fn in_wait(ctx: &impl EbpfContext) -> bool {
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

/// Walks the current kernel stack into this CPU's scratch slot: so many of its innermost frames, or
/// zeros where there are fewer. What lies beyond them in the slot is of another walk.
#[inline(always)]
fn walk(ctx: &impl EbpfContext, slot: u32, frames: usize) -> Option<&'static Stack> {
    let stack = SCRATCH.get_ptr_mut(slot)?;
    // SAFETY: the slot is a live map value of exactly this type; only this program uses it, with
    // preemption off.
    let stack = unsafe { &mut *stack };
    let buffer = stack.frames.get_mut(..frames)?;
    let size = u32::try_from(size_of_val(buffer)).ok()?;
    // SAFETY: the context is this program's, and the buffer has the size that is named.
    let bytes = unsafe { bpf_get_stack(ctx.as_ptr(), buffer.as_mut_ptr().cast(), size, 0) };
    let walked = usize::try_from(bytes).ok()? / FRAME_BYTES;
    // The helper leaves what lies beyond the last frame as it was. One store a frame: the compiler's
    // `memset` stores bytes.
    for (at, frame) in buffer.iter_mut().enumerate() {
        if at >= walked {
            *frame = 0;
        }
    }
    (walked > 0).then_some(stack)
}
