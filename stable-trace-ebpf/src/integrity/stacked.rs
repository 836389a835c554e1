//! Bios that a stacked device without requests failed: dm-integrity, and devices that report a failure
//! of a lower device.

use aya_ebpf::{
    macros::{fentry, kprobe, raw_tracepoint},
    programs::{FEntryContext, ProbeContext, RawTracePointContext},
};
use stable_trace_common::integrity::{
    BLOCK, IntegrityKey, OWN_CHECKSUMS, PROTECTED, UNKNOWN_CHECK,
};

use super::{
    bio::{
        BIO_MAX_VECS, BLK_STS_PROTECTION, BioPosition, direction, disk_number, disk_of,
        mask_if_less, own_iter, vec_element,
    },
    failure::{Failure, NOT_VERIFIED},
    report::report_failure,
    walk::WalkSlot,
};
use crate::{
    maps::checked_by,
    members::{member, offset, offsets, word_32},
};

/// The three forms of the probe, with `bpf_loop` or with unrolled loops.
macro_rules! bio_end_probes {
    ($looped:literal, $fentry:ident, $kprobe:ident, $tracepoint:ident) => {
        /// `void bio_endio(struct bio *bio)`, block/bio.c, 5.10 to 7.3. Called for every bio, and for
        /// a split one once for each part.
        #[fentry]
        fn $fentry(ctx: FEntryContext) -> i32 {
            ended_if_last::<$looped>(ctx.arg(0));
            0
        }

        /// `void bio_endio(struct bio *bio)` (5.10 to 7.3).
        #[kprobe]
        fn $kprobe(ctx: ProbeContext) -> u32 {
            if let Some(bio) = ctx.arg(0) {
                ended_if_last::<$looped>(bio);
            }
            0
        }

        /// `block_bio_complete`, `TP_PROTO(struct request_queue *q, struct bio *bio)` (5.10 to 7.3):
        /// fires only for bios that became no request, once each, when all of the bio has completed.
        #[raw_tracepoint]
        fn $tracepoint(ctx: RawTracePointContext) -> i32 {
            ended::<$looped>(ctx.arg(1));
            0
        }
    };
}

bio_end_probes!(true, integrity_bio, integrity_bio_kprobe, integrity_bio_tracepoint);
bio_end_probes!(
    false,
    integrity_bio_unrolled,
    integrity_bio_kprobe_unrolled,
    integrity_bio_tracepoint_unrolled
);

/// Skips a bio of which other parts have not completed yet (`bio_remaining_done`, block/bio.c).
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
    // A clone shares the pages of its original, which ends next.
    if flag(bio, &offsets().bio_cloned) {
        return;
    }
    if let Some(failure) = failure(bio) {
        report_failure::<LOOPED>(WalkSlot::Stacked, failure);
    }
}

#[inline(always)]
fn failure(bio: u64) -> Option<Failure> {
    let disk = disk_of(bio)?;
    let queue: u64 = member(disk, &offsets().disk_queue)?;
    let requests: u64 = member(queue, &offsets().queue_mq_ops)?;
    if requests != 0 {
        // The failure was counted at its request, or at the host's verification.
        return None;
    }
    let dev = disk_number(disk)?;
    let checked = checked_by(dev);
    let passed_on = u32::from(checked != 0 && checked & OWN_CHECKSUMS == 0);
    let iter = own_iter(bio);
    let mut position = BioPosition::at(bio, iter);
    let mut sector: u64 = member(iter, &offsets().iter_sector)?;
    let size = length(bio)?;
    // If the iterator is at the end, the failure begins at the start of the bio. So may one that is passed on: of a bio
    // that was split the iterator covers the last part, and the status is that of any of them (`bio_chain_endio`,
    // block/bio.c, 5.10 to 7.3).
    if position.size == 0 || passed_on != 0 {
        sector = sector.wrapping_sub(u64::from(size.wrapping_sub(position.size) >> 9));
        position = BioPosition { bio, size, idx: 0, done: 0, chained: 0 };
    }
    // The time of submission is not known. So a failure counts as a repetition only if a lower device
    // checks integrity: a page of a reused buffer may have failed elsewhere just before.
    let since_ns = if checked & PROTECTED != 0 || passed_on != 0 { 0 } else { u64::MAX };
    let key = IntegrityKey {
        dev,
        op: direction(member(bio, &offsets().bio_opf)?),
        check: UNKNOWN_CHECK,
        source: BLOCK,
    };
    let bytes = u64::from(position.size);
    Some(Failure { key, position, sector, bytes, since_ns, verified: NOT_VERIFIED, passed_on })
}

/// The original length of a bio in bytes.
#[inline(always)]
fn length(bio: u64) -> Option<u32> {
    let vec: u64 = member(bio, &offsets().bio_vec)?;
    let elements: u16 = member(bio, &offsets().bio_vcnt)?;
    let mut bytes = 0;
    // Always as often: the verifier would follow what comes after the loop once for each end of it.
    for index in 0..BIO_MAX_VECS {
        let len = word_32(vec_element(vec, u64::from(index)), &offsets().vec_len);
        bytes += len & mask_if_less(u32::from(index), u32::from(elements));
    }
    Some(bytes)
}

#[inline(always)]
fn flag(bio: u64, bit: &'static u32) -> bool {
    let bit = offset(bit);
    let flags: Option<u16> = member(bio, &offsets().bio_flags);
    bit < 16 && flags.is_some_and(|flags| flags >> bit & 1 == 1)
}
