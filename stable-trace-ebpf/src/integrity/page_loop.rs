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

/// Calls `callback` with the index of each page, or run, until it returns [`STOP`].
///
/// `LOOPED`: the kernel runs the loop (`bpf_loop`, 5.17), and its verifier checks one iteration of it.
/// Otherwise the loop is unrolled. The verifier checks every iteration, so there are fewer.
#[inline(always)]
pub(super) fn for_each_page<const LOOPED: bool>(
    callback: extern "C" fn(u32, *mut LoopCtx) -> u64,
    ctx: &mut LoopCtx,
) {
    const UNROLLED: u32 = 16;
    let ctx: *mut LoopCtx = ctx;
    if LOOPED {
        // SAFETY: the helper calls a function of this type, and the context outlives the call.
        unsafe { bpf_loop(MAX_PAGES, callback as *mut c_void, ctx.cast(), 0) };
        return;
    }
    for index in 0..UNROLLED {
        if callback(index, ctx) != CONTINUE {
            return;
        }
    }
}
