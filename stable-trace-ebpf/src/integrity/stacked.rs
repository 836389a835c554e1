//! Bios that a stacked device without requests failed: dm-integrity, and whatever reports what a
//! device below has.

use aya_ebpf::{
    macros::{fentry, kprobe, raw_tracepoint},
    programs::{FEntryContext, ProbeContext, RawTracePointContext},
};
use stable_trace_common::integrity::{BLK_STS_PROTECTION, BLOCK, IntegrityKey, UNKNOWN_CHECK};

use super::{
    Failure, Lane, disk_number, disk_of, failed, operation,
    pages::{Place, own_iter},
};
use crate::{
    folio::{member, offset, offsets},
    maps::CHECKED_DEVICES,
};

/// The three ways to the same place, with a loop of the kernel's or without.
macro_rules! bios {
    ($looped:literal, $fentry:ident, $kprobe:ident, $tracepoint:ident) => {
        /// `void bio_endio(struct bio *bio)`, block/bio.c, 5.10 to 7.3: for every bio, and for one
        /// that was split once for each part.
        #[fentry]
        pub fn $fentry(ctx: FEntryContext) -> i32 {
            ended_if_last::<$looped>(ctx.arg(0));
            0
        }

        /// The same by breakpoint or ftrace.
        #[kprobe]
        pub fn $kprobe(ctx: ProbeContext) -> u32 {
            if let Some(bio) = ctx.arg(0) {
                ended_if_last::<$looped>(bio);
            }
            0
        }

        /// `block_bio_complete`, `TP_PROTO(struct request_queue *q, struct bio *bio)` (5.10 to 7.3):
        /// fires only for bios that became no request, once each, when nothing of them is left to do.
        #[raw_tracepoint]
        pub fn $tracepoint(ctx: RawTracePointContext) -> i32 {
            ended::<$looped>(ctx.arg(1));
            0
        }
    };
}

bios!(true, integrity_bio, integrity_bio_kprobe, integrity_bio_tracepoint);
bios!(
    false,
    integrity_bio_unrolled,
    integrity_bio_kprobe_unrolled,
    integrity_bio_tracepoint_unrolled
);

/// Passes over a bio of which other parts are under way (`bio_remaining_done`, block/bio.c).
#[inline(always)]
fn ended_if_last<const LOOPED: bool>(bio: u64) {
    if member::<u8>(bio, &offsets().bio_status).map(u32::from) != Some(BLK_STS_PROTECTION) {
        return;
    }
    if flag(bio, &offsets().bio_chain) {
        let remaining: Option<u32> = member(bio, &offsets().bio_remaining);
        if remaining.is_some_and(|remaining| remaining > 1) {
            return;
        }
    }
    ended::<LOOPED>(bio);
}

/// A bio has ended.
#[inline(always)]
fn ended<const LOOPED: bool>(bio: u64) {
    if member::<u8>(bio, &offsets().bio_status).map(u32::from) != Some(BLK_STS_PROTECTION) {
        return;
    }
    // A clone has its original's pages, and the original ends next.
    if flag(bio, &offsets().bio_cloned) {
        return;
    }
    if let Some(failure) = failure(bio) {
        failed::<LOOPED>(Lane::Stacked, &failure);
    }
}

#[inline(always)]
fn failure(bio: u64) -> Option<Failure> {
    let disk = disk_of(bio)?;
    let queue: u64 = member(disk, &offsets().disk_queue)?;
    let requests: u64 = member(queue, &offsets().queue_mq_ops)?;
    if requests != 0 {
        // Its request has been counted, or what the host verified.
        return None;
    }
    let dev = disk_number(disk)?;
    // SAFETY: a word that the agent replaces as a whole.
    let checked = unsafe { CHECKED_DEVICES.get(dev) }.is_some();
    // A bio does not say when it was submitted. So one is taken for a repetition only where a device
    // below could have failed it: a page of a reused buffer may have failed elsewhere just before.
    let since_ns = if checked { 0 } else { u64::MAX };
    let iter = own_iter(bio);
    let left: u32 = member(iter, &offsets().iter_size)?;
    let sector: u64 = member(iter, &offsets().iter_sector)?;
    let key = IntegrityKey {
        dev,
        op: operation(member(bio, &offsets().bio_opf)?),
        check: UNKNOWN_CHECK,
        source: BLOCK,
    };
    if left != 0 {
        let place = Place::at(bio, iter)?;
        return Some(Failure { key, place, sector, bytes: u64::from(left), since_ns });
    }
    // Its iterator has come to the end: back to the beginning.
    let bytes = length(bio)?;
    let place = Place { bio, size: bytes, idx: 0, done: 0, chained: 0 };
    let bytes = u64::from(bytes);
    let sector = sector.wrapping_sub(bytes >> 9);
    Some(Failure { key, place, sector, bytes, since_ns })
}

/// Elements of a bio's vector that are added up: `BIO_MAX_VECS`, include/linux/bio.h.
const ELEMENTS: u16 = 256;

/// Bytes that a bio had at its beginning.
#[inline(always)]
fn length(bio: u64) -> Option<u32> {
    let vec: u64 = member(bio, &offsets().bio_vec)?;
    let elements: u16 = member(bio, &offsets().bio_vcnt)?;
    let mut bytes = 0;
    for index in 0..ELEMENTS {
        if index >= elements {
            break;
        }
        let len: u32 = member(vec + 16 * u64::from(index), &offsets().vec_len)?;
        bytes += len;
    }
    Some(bytes)
}

#[inline(always)]
fn flag(bio: u64, bit: &'static u32) -> bool {
    let bit = offset(bit);
    let flags: Option<u16> = member(bio, &offsets().bio_flags);
    bit < 16 && flags.is_some_and(|flags| flags >> bit & 1 == 1)
}
