//! Requests that their device failed.
//!
//! `bool blk_update_request(struct request *req, blk_status_t error, unsigned int nr_bytes)`,
//! block/blk-core.c (5.10), block/blk-mq.c (6.1 to 7.3). Every failed completion calls it. At its entry
//! the request still has its bios, and they have their pages. The arguments cover the failed part only:
//! an earlier call has completed the good part.

use aya_ebpf::{
    macros::{fentry, kprobe, raw_tracepoint},
    programs::{FEntryContext, ProbeContext, RawTracePointContext},
};
use stable_trace_common::{integrity::IntegrityKey, offsets::ABSENT};

use super::{
    bio::{BLK_STS_PROTECTION, BioPosition, direction, disk_number, own_iter},
    check_report, driver_pdu,
    failure::{Failure, NOT_VERIFIED},
    report::report_failure,
    walk::WalkSlot,
};
use crate::members::{member, offset, offsets};

/// `EILSEQ` (include/uapi/asm-generic/errno.h): the same as an errno, as the tracepoint
/// `block:block_rq_complete` has it up to 5.15.
const EILSEQ: i32 = 84;

/// The three forms of the probe, with `bpf_loop` or with unrolled loops.
macro_rules! request_probes {
    ($looped:literal, $fentry:ident, $kprobe:ident, $tracepoint:ident) => {
        /// `bool blk_update_request(struct request *req, blk_status_t error, unsigned int nr_bytes)`
        /// (5.10 to 7.3).
        #[fentry]
        fn $fentry(ctx: FEntryContext) -> i32 {
            completed::<$looped>(ctx.arg(0), ctx.arg(1), ctx.arg(2));
            0
        }

        /// `bool blk_update_request(struct request *req, blk_status_t error, unsigned int nr_bytes)`
        /// (5.10 to 7.3).
        #[kprobe]
        fn $kprobe(ctx: ProbeContext) -> u32 {
            if let (Some(request), Some(status), Some(bytes)) = (ctx.arg(0), ctx.arg(1), ctx.arg(2))
            {
                completed::<$looped>(request, status, bytes);
            }
            0
        }

        /// The tracepoint at its start: `block_rq_complete`, `TP_PROTO(struct request *rq,
        /// blk_status_t error, unsigned int nr_bytes)` (6.1 to 7.3), with an `int error` (5.10).
        #[raw_tracepoint]
        fn $tracepoint(ctx: RawTracePointContext) -> i32 {
            completed::<$looped>(ctx.arg(0), ctx.arg(1), ctx.arg(2));
            0
        }
    };
}

request_probes!(true, integrity_request, integrity_request_kprobe, integrity_request_tracepoint);
request_probes!(
    false,
    integrity_request_unrolled,
    integrity_request_kprobe_unrolled,
    integrity_request_tracepoint_unrolled
);

/// A request, or a part of it, has completed.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "registers of narrower arguments")]
#[expect(clippy::cast_sign_loss, reason = "compared as bits")]
fn completed<const LOOPED: bool>(request: u64, status: u64, bytes: u64) {
    // A status is a byte and an errno an `int`: the upper bits of the register are undefined.
    let status = status as u32;
    if status & 0xff != BLK_STS_PROTECTION && status != -EILSEQ as u32 {
        return;
    }
    if let Some(failure) = failure(request, bytes & 0xffff_ffff) {
        report_failure::<LOOPED>(WalkSlot::Request, failure);
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
    let mut position = BioPosition::at(bio, own_iter(bio));
    position.chained = 1;
    // Taken in any case, so that the next failure does not find it.
    let reported = check_report::take_reported();
    let failed = driver_pdu::failed_check(request, disk).unwrap_or(reported);
    Some(Failure {
        key: IntegrityKey {
            dev: disk_number(disk)?,
            op: direction(member(request, &offsets().request_flags)?),
            check: failed.check,
            source: failed.source,
        },
        position,
        sector: member(request, &offsets().request_sector)?,
        bytes,
        since_ns: member(request, &offsets().request_start).unwrap_or(0),
        verified: NOT_VERIFIED,
    })
}
