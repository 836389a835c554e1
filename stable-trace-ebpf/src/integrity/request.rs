//! Requests that their device failed.
//!
//! `bool blk_update_request(struct request *req, blk_status_t error, unsigned int nr_bytes)`,
//! block/blk-core.c (5.10), block/blk-mq.c (6.1 to 7.3): every failed completion comes through here,
//! and while it is entered the request still has its bios, and they their pages. It is called with
//! the failed part only: what went well was completed by a call before.

use aya_ebpf::{
    macros::{fentry, kprobe, raw_tracepoint},
    programs::{FEntryContext, ProbeContext, RawTracePointContext},
};
use stable_trace_common::{
    integrity::{BLK_STS_PROTECTION, EILSEQ, IntegrityKey},
    offsets::ABSENT,
};

use super::{
    Failure, Lane, behind, disk_number, failed, operation,
    pages::{Place, own_iter},
    reason,
};
use crate::folio::{member, offset, offsets};

/// The three ways to the same place, with a loop of the kernel's or without.
macro_rules! requests {
    ($looped:literal, $fentry:ident, $kprobe:ident, $tracepoint:ident) => {
        /// By trampoline.
        #[fentry]
        pub fn $fentry(ctx: FEntryContext) -> i32 {
            completed::<$looped>(ctx.arg(0), ctx.arg(1), ctx.arg(2));
            0
        }

        /// By breakpoint or ftrace.
        #[kprobe]
        pub fn $kprobe(ctx: ProbeContext) -> u32 {
            if let (Some(request), Some(status), Some(bytes)) = (ctx.arg(0), ctx.arg(1), ctx.arg(2))
            {
                completed::<$looped>(request, status, bytes);
            }
            0
        }

        /// At the tracepoint at its start: `block_rq_complete`, `TP_PROTO(struct request *rq,
        /// blk_status_t error, unsigned int nr_bytes)` (6.1 to 7.3), with an `int error` (5.10).
        #[raw_tracepoint]
        pub fn $tracepoint(ctx: RawTracePointContext) -> i32 {
            completed::<$looped>(ctx.arg(0), ctx.arg(1), ctx.arg(2));
            0
        }
    };
}

requests!(true, integrity_request, integrity_request_kprobe, integrity_request_tracepoint);
requests!(
    false,
    integrity_request_unrolled,
    integrity_request_kprobe_unrolled,
    integrity_request_tracepoint_unrolled
);

/// A request has completed, or a part of it.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "registers of narrower arguments")]
#[expect(clippy::cast_sign_loss, reason = "compared as bits")]
fn completed<const LOOPED: bool>(request: u64, status: u64, bytes: u64) {
    // A status is a byte, an errno an `int`; what is above them in the register is not theirs.
    let status = status as u32;
    if status & 0xff != BLK_STS_PROTECTION && status != -EILSEQ as u32 {
        return;
    }
    if let Some(failure) = failure(request, bytes & 0xffff_ffff) {
        failed::<LOOPED>(Lane::Request, &failure);
    }
}

#[inline(always)]
fn failure(request: u64, bytes: u64) -> Option<Failure> {
    let disk = if offset(&offsets().request_disk) == ABSENT {
        let queue: u64 = member(request, &offsets().request_queue)?;
        member(queue, &offsets().queue_disk)?
    } else {
        member(request, &offsets().request_disk)?
    };
    let bio: u64 = member(request, &offsets().request_bio)?;
    let mut place = Place::at(bio, own_iter(bio)).unwrap_or(Place {
        bio,
        size: 0,
        idx: 0,
        done: 0,
        chained: 0,
    });
    place.chained = 1;
    // Taken in any case: it is not to be found by another failure.
    let said = reason::take();
    let reason = behind::kept(request, disk).unwrap_or(said);
    Some(Failure {
        key: IntegrityKey {
            dev: disk_number(disk)?,
            op: operation(member(request, &offsets().request_flags)?),
            check: reason.check,
            source: reason.source,
        },
        place,
        sector: member(request, &offsets().request_sector)?,
        bytes,
        since_ns: member(request, &offsets().request_start).unwrap_or(0),
    })
}
