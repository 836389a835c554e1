//! Requests that their device failed.
//!
//! `bool blk_update_request(struct request *req, blk_status_t error, unsigned int nr_bytes)`,
//! block/blk-core.c (5.10), block/blk-mq.c (6.1 to 7.3). Every failed completion calls it. At its entry
//! the request still has its bios, and they have their pages. The arguments cover the failed part only:
//! an earlier call has completed the good part.

use aya_ebpf::{
    Global,
    bindings::BPF_ANY,
    macros::{fentry, kprobe, map, raw_tracepoint},
    maps::LruHashMap,
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

/// 1: the function and the tracepoint in it are both probed.
#[unsafe(no_mangle)]
static PROBED_TWICE: Global<u32> = Global::new(0);

/// The failed requests that the first program has taken, by address, until the second one has seen them.
#[map]
static TAKEN: LruHashMap<u64, u32> = LruHashMap::with_max_entries(1024, 0);

/// The three forms of the probe, with `bpf_loop` or with unrolled loops.
macro_rules! request_probes {
    ($looped:literal, $fentry:ident, $kprobe:ident, $tracepoint:ident) => {
        /// `bool blk_update_request(struct request *req, blk_status_t error, unsigned int nr_bytes)`
        /// (5.10 to 7.3).
        #[fentry]
        fn $fentry(ctx: FEntryContext) -> i32 {
            first::<$looped>(ctx.arg(0), ctx.arg(1), ctx.arg(2));
            0
        }

        /// `bool blk_update_request(struct request *req, blk_status_t error, unsigned int nr_bytes)`
        /// (5.10 to 7.3).
        #[kprobe]
        fn $kprobe(ctx: ProbeContext) -> u32 {
            if let (Some(request), Some(status), Some(bytes)) = (ctx.arg(0), ctx.arg(1), ctx.arg(2))
            {
                first::<$looped>(request, status, bytes);
            }
            0
        }

        /// The tracepoint at its start: `block_rq_complete`, `TP_PROTO(struct request *rq,
        /// blk_status_t error, unsigned int nr_bytes)` (6.1 to 7.3), with an `int error` (5.10).
        #[raw_tracepoint]
        fn $tracepoint(ctx: RawTracePointContext) -> i32 {
            second::<$looped>(ctx.arg(0), ctx.arg(1), ctx.arg(2));
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

/// A request, or a part of it, has completed: at the entry of the function.
#[inline(always)]
fn first<const LOOPED: bool>(request: u64, status: u64, bytes: u64) {
    if !is_failure(status) {
        return;
    }
    // If the request cannot be remembered, it is left to the second program.
    if PROBED_TWICE.load() != 0 && TAKEN.insert(request, 1, u64::from(BPF_ANY)).is_err() {
        return;
    }
    if let Some(failure) = failure(request, bytes & 0xffff_ffff) {
        report_failure::<LOOPED>(WalkSlot::Request, failure);
    }
}

/// The same at the tracepoint in the function: reports what no other program has taken. The kernel skips a program
/// that would interrupt itself on a CPU, or preempt itself (`prog->active`, kernel/bpf/trampoline.c, 5.12 to 7.3),
/// and a completion may interrupt another one.
#[inline(always)]
fn second<const LOOPED: bool>(request: u64, status: u64, bytes: u64) {
    if !is_failure(status) {
        return;
    }
    if PROBED_TWICE.load() != 0 {
        // SAFETY: the value is not read.
        let taken = unsafe { TAKEN.get(request) }.is_some();
        if taken {
            // Fails only if the entry was evicted just now.
            let _ = TAKEN.remove(request);
            return;
        }
    }
    if let Some(failure) = failure(request, bytes & 0xffff_ffff) {
        report_failure::<LOOPED>(WalkSlot::RequestAgain, failure);
    }
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "registers of narrower arguments")]
#[expect(clippy::cast_sign_loss, reason = "compared as bits")]
fn is_failure(status: u64) -> bool {
    // A status is a byte and an errno an `int`: the upper bits of the register are undefined.
    let status = status as u32;
    status & 0xff == BLK_STS_PROTECTION || status == -EILSEQ as u32
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
        passed_on: 0,
    })
}
