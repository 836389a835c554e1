//! Loops over the pages, or runs of pages, of a failure.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_loop;
use stable_trace_common::integrity::{PageRun, RUNS};

use super::{
    failure::Failure,
    walk::{MAX_PAGES, PageWalk},
};

/// What the callback of a loop gets.
#[repr(C)]
pub(super) struct LoopCtx {
    pub(super) walk: *mut PageWalk,
    pub(super) failure: *const Failure,
    /// The runs of its record.
    pub(super) runs: *mut [PageRun; RUNS],
    /// When it was seen: `CLOCK_MONOTONIC` in ns.
    pub(super) now: u64,
    /// Since when a lower device may have reported it.
    pub(super) since: u64,
    /// 1 if a page of it failed on a lower device before.
    pub(super) repeated: u64,
    /// What the copies of its data are: a kind of evidence.
    pub(super) reading: u32,
    /// Bytes of its data that were copied in this reading.
    pub(super) copied: u64,
}

/// A callback's result: go on with the next page.
pub(super) const CONTINUE: u64 = 0;
/// A callback's result: end the loop.
pub(super) const STOP: u64 = 1;

/// What a loop does with one page, or run.
pub(super) trait Step {
    /// Called with the index of each page, or run, until it returns [`STOP`].
    fn take(index: u32, ctx: &mut LoopCtx) -> u64;
}

/// Runs a step for each page, or run.
///
/// `LOOPED`: the kernel runs the loop (`bpf_loop`, 5.17), and its verifier checks one iteration of it.
/// Otherwise the verifier checks every iteration, so there are fewer, and the step is inlined: in a program that
/// calls functions of its own the verifier of such a kernel takes every value for one that matters
/// (`reg->precise`, kernel/bpf/verifier.c, up to 6.2), and follows many more ways.
#[inline(always)]
pub(super) fn for_each_page<const LOOPED: bool, S: Step>(ctx: &mut LoopCtx) {
    const ITERATIONS: u32 = 16;
    if LOOPED {
        let ctx: *mut LoopCtx = ctx;
        // SAFETY: the helper calls a function of this type, and the context outlives the call.
        unsafe { bpf_loop(MAX_PAGES, callback::<S> as *mut c_void, ctx.cast(), 0) };
        return;
    }
    for index in 0..ITERATIONS {
        if S::take(index, ctx) != CONTINUE {
            return;
        }
    }
}

/// A step as `bpf_loop` calls it.
extern "C" fn callback<S: Step>(index: u32, ctx: *mut LoopCtx) -> u64 {
    // SAFETY: the loop's caller owns it, and it outlives the loop.
    S::take(index, unsafe { &mut *ctx })
}
