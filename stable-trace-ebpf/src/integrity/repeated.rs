//! Failures that a stacked device reports again on their way up.
//!
//! A loop device on a disk reports the disk's failures as its own, and so does device mapper. The pages
//! are the same on every level, and on the legs of a mirror, of which each counts.

use aya_ebpf::{bindings::BPF_ANY, macros::map, maps::LruHashMap};
use stable_trace_common::counter::Counter;

use super::{
    failure::Failure,
    page_loop::{CONTINUE, LoopCtx, STOP, Step},
};
use crate::maps::{count, may_be_stacked_on};

/// The pages of the latest failures, by the address of their `struct page`.
#[map]
static FAILED_PAGES: LruHashMap<u64, FailedPage> = LruHashMap::with_max_entries(16_384, 0);

/// A page of a failure that was counted.
#[repr(C)]
#[derive(Clone, Copy)]
struct FailedPage {
    /// When the failure was seen: `CLOCK_MONOTONIC` in ns.
    time_ns: u64,
    /// The disk, as `dev_t`.
    dev: u32,
    /// Keeps the size a multiple of 8.
    unused: u32,
}

const _: () = assert!(size_of::<FailedPage>() == 16);

/// How long after the lower device a stacked device reports a failure at most, in ns, if the start of
/// its request is not known.
const REPEATED_WITHIN_NS: u64 = 1_000_000_000;

/// The same of a device that only passes failures on, and waits for the other parts of a bio before: as long as a
/// command may take (`SD_TIMEOUT`, drivers/scsi/sd.h; `nvme_io_timeout`, drivers/nvme/host/core.c, 5.10 to 7.3).
const PASSED_ON_WITHIN_NS: u64 = 30_000_000_000;

/// [`LoopCtx::repeated`]: a page failed on a lower device before.
pub(super) const REPEATED: u64 = 1;

/// Since when a failure of a lower device may be the same one: `CLOCK_MONOTONIC` in ns.
#[inline(always)]
pub(super) fn since(failure: &Failure, now: u64) -> u64 {
    if failure.since_ns != 0 {
        return failure.since_ns;
    }
    let within = if failure.passed_on == 0 { REPEATED_WITHIN_NS } else { PASSED_ON_WITHIN_NS };
    now.saturating_sub(within)
}

/// Sets [`LoopCtx::repeated`] if the page failed on another device since [`LoopCtx::since`].
pub(super) struct FindOnLowerDevice;

impl Step for FindOnLowerDevice {
    #[inline(always)]
    fn take(index: u32, ctx: &mut LoopCtx) -> u64 {
        // SAFETY: the loop's caller owns all of it, and it outlives the loop.
        let (walk, failure) = unsafe { (&*ctx.walk, &*ctx.failure) };
        let Some(page) = walk.page(index) else {
            return STOP;
        };
        // SAFETY: an entry is replaced as a whole, and a torn one is still an entry of the same page.
        if let Some(other) = unsafe { FAILED_PAGES.get(page) }
            && other.dev != failure.key.dev
            && other.time_ns >= ctx.since
            && may_be_stacked_on(failure.key.dev, other.dev)
        {
            ctx.repeated = REPEATED;
            return STOP;
        }
        CONTINUE
    }
}

/// Stores the page for the devices above.
pub(super) struct Remember;

impl Step for Remember {
    #[inline(always)]
    fn take(index: u32, ctx: &mut LoopCtx) -> u64 {
        // SAFETY: the loop's caller owns all of it, and it outlives the loop.
        let (walk, failure) = unsafe { (&*ctx.walk, &*ctx.failure) };
        let Some(page) = walk.page(index) else {
            return STOP;
        };
        let entry = FailedPage { time_ns: ctx.now, dev: failure.key.dev, unused: 0 };
        if FAILED_PAGES.insert(page, entry, u64::from(BPF_ANY)).is_err() {
            count(Counter::FailedPagesFull);
        }
        CONTINUE
    }
}
