//! Recognises stacks by their layouts, and reports stacks to the agent that have none.

use core::{ffi::c_void, ptr};

use aya_ebpf::{
    EbpfContext, Global,
    bindings::BPF_RB_FORCE_WAKEUP,
    helpers::{bpf_get_prandom_u32, generated::bpf_probe_read_kernel},
    macros::map,
    maps::{Array, PerCpuArray},
    programs::{RawTracePointContext, TracePointContext},
};
use stable_trace_common::{
    counter::Counter,
    layout::{AT_SWITCH, CHUNK_WORDS, LayoutTable, StackSample, TABLES, WINDOW_WORDS},
    record::STACK_SAMPLE,
    stack::{FRAMES, Stack},
};

use crate::{
    maps::{EVENTS, count},
    members::{as_number, offsets, read_or_zero, word},
};

/// The layouts that the agent has learned. It fills an empty place of a table in two steps, so that a
/// program never sees a part of a layout, and leaves one that it has emptied empty for a while.
#[map]
static STACK_LAYOUTS: Array<LayoutTable> = Array::with_max_entries(TABLES, 0);

/// Buffers for the inner end of a stack.
#[map]
static STACK_WINDOWS: PerCpuArray<[u64; WINDOW_WORDS]> = PerCpuArray::with_max_entries(TABLES, 0);

/// Tables for which stacks are reported, a bit each.
#[unsafe(no_mangle)]
static SAMPLED_TABLES: Global<u32> = Global::new(0);

/// One in so many walks of a stack that has been walked before is reported. A power of two.
const SAMPLE_ONE_IN: u32 = 128;

/// The smallest size of a kernel stack in bytes.
const STACK_BYTES: u64 = 16 << 10;

/// Contexts that lead to the stack of the function that runs the program.
pub(crate) trait OnStack: EbpfContext {
    /// An address at the inner end of the stack: at the same distance from the innermost frame each time.
    fn stack_end(&self) -> u64;
}

impl OnStack for RawTracePointContext {
    /// The arguments of the program are a local variable of `bpf_trace_run2` and its like
    /// (`kernel/trace/bpf_trace.c`, 5.10 to 7.3).
    #[inline(always)]
    fn stack_end(&self) -> u64 {
        self.as_ptr() as u64
    }
}

impl OnStack for TracePointContext {
    /// The record begins with the address of registers that `perf_fetch_caller_regs` took in the function
    /// that made the record (`perf_trace_run_bpf_submit`, kernel/events/core.c, 5.10 to 7.3). Programs
    /// may not read it directly.
    #[inline(always)]
    fn stack_end(&self) -> u64 {
        let registers = read_or_zero(self.as_ptr() as u64);
        word(registers, &offsets().registers_sp)
    }
}

/// The id of the current stack, if its layout is known; else 0. `end` is the inner end of the stack.
///
/// Not inlined: three programs begin waits.
#[inline(never)]
#[expect(clippy::cast_possible_truncation, reason = "1,023 at most")]
pub(super) fn recognise(end: u64, table: u32) -> u64 {
    let (Some(layouts), Some(window)) =
        (STACK_LAYOUTS.get(table), STACK_WINDOWS.get_ptr_mut(table))
    else {
        return 0;
    };
    // A stack has this size, or a multiple of it, and so has its address (`THREAD_SIZE`, `THREAD_ALIGN`,
    // arch/x86/include/asm/page_64_types.h, arch/arm64/include/asm/memory.h, 5.10 to 7.3). A read past its end
    // would fail as a whole.
    let room = STACK_BYTES - (as_number(end, window.cast()) & (STACK_BYTES - 1));
    let bytes = layouts.window_bytes.min(room) & (size_of::<[u64; WINDOW_WORDS]>() as u64 - 1);
    // SAFETY: the buffer has more bytes than are read, and the helper takes any address.
    let failed =
        unsafe { bpf_probe_read_kernel(window.cast(), bytes as u32, end as *const c_void) };
    if bytes == 0 || failed != 0 {
        return 0;
    }
    // SAFETY: a live map value. One program uses the buffer of a table, and no other task runs it on this CPU meanwhile.
    let window = unsafe { &*window };
    for layout in &layouts.layouts {
        // SAFETY: a reference is valid to read. The agent changes the word meanwhile.
        let stack = unsafe { ptr::read_volatile(&raw const layout.stack) };
        let differs = |frame: usize| {
            let word = usize::from(layout.words[frame]) & (WINDOW_WORDS - 1);
            window[word] ^ layout.addresses[frame]
        };
        // The outermost frame tells most layouts apart. Behind the bytes that were read are those of another stack.
        if stack == 0 || u64::from(layout.window_words) > bytes >> 3 || differs(0) != 0 {
            continue;
        }
        let mut difference = 0;
        for frame in 1..layout.addresses.len() {
            difference |= differs(frame);
        }
        if difference == 0 {
            return stack;
        }
    }
    0
}

/// The return address into the wait function that the current task slept in, if it has not left it since;
/// another word if it has. `None` if it is not known where to look. `begin_end` is the inner end of the task's
/// stack when the wait began.
#[inline(always)]
pub(super) fn wait_function_address(begin_end: u64) -> Option<u64> {
    let distance = STACK_LAYOUTS.get(AT_SWITCH)?.wait_function_at;
    if distance == 0 {
        return None;
    }
    let address = read_or_zero(begin_end + distance);
    (address != 0).then_some(address)
}

/// One in so many times true.
#[inline(always)]
pub(super) fn is_checked() -> bool {
    // SAFETY: no pointer is involved.
    let random = unsafe { bpf_get_prandom_u32() };
    random & (SAMPLE_ONE_IN - 1) == 0
}

/// A walked stack.
pub(super) struct Walked {
    /// The inner end of the stack.
    pub(super) end: u64,
    /// The same when the wait began.
    pub(super) begin_end: u64,
    /// The table that a layout of it belongs to.
    pub(super) table: u32,
    pub(super) stack: &'static Stack,
    /// The id for a layout of it.
    pub(super) id: u64,
    /// Whether it is reported in any case.
    pub(super) new: bool,
}

/// Reports a walked stack, if it is new or its turn has come.
///
/// Not inlined: as [`recognise`].
#[inline(never)]
#[expect(clippy::cast_possible_truncation, reason = "256 and 128 bytes")]
pub(super) fn sample(walked: &Walked) {
    let Walked { end, begin_end, table, stack, id, new } = *walked;
    if SAMPLED_TABLES.load() >> (table & 31) & 1 == 0 || !(new || is_checked()) {
        return;
    }
    let Some(mut entry) = EVENTS.reserve::<StackSample>(0) else {
        count(Counter::SamplesLost);
        return;
    };
    let sample = entry.as_mut_ptr();
    let mut valid = 0;
    // SAFETY: the reserved record is `size_of::<StackSample>()` bytes; the helper takes any address to read
    // from.
    unsafe {
        (&raw mut (*sample).kind).write(STACK_SAMPLE);
        (&raw mut (*sample).size).write(StackSample::SIZE);
        (&raw mut (*sample).table).write(table);
        (&raw mut (*sample).new).write(u32::from(new));
        (&raw mut (*sample).stack).write(id);
        (&raw mut (*sample).end).write(end);
        (&raw mut (*sample).begin_end).write(begin_end);
        let frames = (&raw mut (*sample).frames).cast();
        let _ = bpf_probe_read_kernel(frames, (FRAMES * 8) as u32, (&raw const *stack).cast());
        let window: *mut u64 = (&raw mut (*sample).window).cast();
        for chunk in 0..WINDOW_WORDS / CHUNK_WORDS {
            let from = end + (chunk * CHUNK_WORDS * 8) as u64;
            let to = window.add(chunk * CHUNK_WORDS).cast();
            if bpf_probe_read_kernel(to, (CHUNK_WORDS * 8) as u32, from as *const c_void) != 0 {
                break;
            }
            valid += CHUNK_WORDS as u64;
        }
        (&raw mut (*sample).valid_words).write(valid);
    }
    // Rare, and until the agent has learned the layout each wait of this kind is walked.
    entry.submit(u64::from(BPF_RB_FORCE_WAKEUP));
}
