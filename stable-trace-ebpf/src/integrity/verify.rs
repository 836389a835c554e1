//! Reads that completed well and that the host's verification then failed.
//!
//! A worker verifies (`bio_integrity_verify_fn`), through one function that has the bio and the iterator
//! it began with:
//! `blk_status_t bio_integrity_process(struct bio *bio, struct bvec_iter *proc_iter,
//! integrity_processing_fn *proc_fn)` (5.10, 6.1; for writes too, which never fail),
//! `void blk_integrity_verify(struct bio *bio)` (6.12),
//! `void blk_integrity_verify_iter(struct bio *bio, struct bvec_iter *saved_iter)` (6.17),
//! `blk_status_t bio_integrity_verify(struct bio *bio, struct bvec_iter *saved_iter)` (7.3, also for
//! file systems that verify themselves).

use aya_ebpf::{
    bindings::BPF_ANY,
    helpers::bpf_get_current_task,
    macros::{fexit, kprobe, kretprobe, map},
    maps::LruHashMap,
    programs::{FExitContext, ProbeContext, RetProbeContext},
};
use stable_trace_common::{counter::Counter, integrity::IntegrityKey};

use super::{
    bio::{
        BIO_MAX_VECS, BLK_STS_PROTECTION, BioPosition, direction, disk_number, disk_of,
        mask_if_less, vec_element,
    },
    check_report,
    failure::Failure,
    report::report_failure,
    walk::WalkSlot,
};
use crate::{
    maps::count,
    members::{member, offset, offsets, word_32},
};

/// The bio and the iterator of a verification, by `task_struct`. Only with a kretprobe, which does not
/// see the arguments.
#[map]
static VERIFICATIONS: LruHashMap<u64, [u64; 2]> = LruHashMap::with_max_entries(1024, 0);

/// Every form of the probe, with `bpf_loop` or with unrolled loops.
macro_rules! verify_probes {
    ($looped:literal, $three:ident, $two:ident, $iter:ident, $one:ident, $returns:ident, $bio:ident) => {
        /// `blk_status_t bio_integrity_process(struct bio *bio, struct bvec_iter *proc_iter,
        /// integrity_processing_fn *proc_fn)` (5.10, 6.1). The result is the argument after the last.
        #[fexit]
        fn $three(ctx: FExitContext) -> i32 {
            verified::<$looped>(ctx.arg(0), ctx.arg(1), ctx.arg(3));
            0
        }

        /// `blk_status_t bio_integrity_verify(struct bio *bio, struct bvec_iter *saved_iter)` (7.3). The
        /// result is the argument after the last.
        #[fexit]
        fn $two(ctx: FExitContext) -> i32 {
            verified::<$looped>(ctx.arg(0), ctx.arg(1), ctx.arg(2));
            0
        }

        /// `void blk_integrity_verify_iter(struct bio *bio, struct bvec_iter *saved_iter)` (6.17). The
        /// result is the bio's status.
        #[fexit]
        fn $iter(ctx: FExitContext) -> i32 {
            verified::<$looped>(ctx.arg(0), ctx.arg(1), status(ctx.arg(0)));
            0
        }

        /// `void blk_integrity_verify(struct bio *bio)` (6.12). The iterator is in the bio's payload, the
        /// result is the bio's status.
        #[fexit]
        fn $one(ctx: FExitContext) -> i32 {
            let bio = ctx.arg(0);
            if let Some(iter) = payload_iter(bio) {
                verified::<$looped>(bio, iter, status(bio));
            }
            0
        }

        /// `blk_status_t bio_integrity_process(…)` (5.10, 6.1), `blk_status_t bio_integrity_verify(…)`
        /// (7.3): the function returns the result.
        #[kretprobe]
        fn $returns(ctx: RetProbeContext) -> u32 {
            if let Some([bio, iter]) = saved_arguments() {
                verified::<$looped>(bio, iter, ctx.ret());
            }
            0
        }

        /// `void blk_integrity_verify(…)` (6.12), `void blk_integrity_verify_iter(…)` (6.17): the result
        /// is the bio's status.
        #[kretprobe]
        fn $bio(_ctx: RetProbeContext) -> u32 {
            if let Some([bio, iter]) = saved_arguments() {
                verified::<$looped>(bio, iter, status(bio));
            }
            0
        }
    };
}

verify_probes!(
    true,
    integrity_verify_3,
    integrity_verify_2,
    integrity_verify_iter,
    integrity_verify_1,
    integrity_verify_return,
    integrity_verify_return_bio
);
verify_probes!(
    false,
    integrity_verify_3_unrolled,
    integrity_verify_2_unrolled,
    integrity_verify_iter_unrolled,
    integrity_verify_1_unrolled,
    integrity_verify_return_unrolled,
    integrity_verify_return_bio_unrolled
);

/// The functions with a bio and an iterator: `bio_integrity_process(struct bio *, struct bvec_iter *,
/// integrity_processing_fn *)` (5.10, 6.1), `blk_integrity_verify_iter(struct bio *, struct bvec_iter *)`
/// (6.17), `bio_integrity_verify(struct bio *, struct bvec_iter *)` (7.3).
#[kprobe]
fn integrity_verify_enter(ctx: ProbeContext) -> u32 {
    if let (Some(bio), Some(iter)) = (ctx.arg(0), ctx.arg(1)) {
        save([bio, iter]);
    }
    0
}

/// `void blk_integrity_verify(struct bio *bio)` (6.12).
#[kprobe]
fn integrity_verify_enter_1(ctx: ProbeContext) -> u32 {
    if let Some(bio) = ctx.arg(0)
        && let Some(iter) = payload_iter(bio)
    {
        save([bio, iter]);
    }
    0
}

/// The iterator that a bio began with, in its payload.
#[inline(always)]
fn payload_iter(bio: u64) -> Option<u64> {
    let payload: u64 = member(bio, &offsets().bio_integrity)?;
    (payload != 0).then(|| payload + u64::from(offset(&offsets().payload_iter)))
}

#[inline(always)]
fn status(bio: u64) -> u64 {
    member::<u8>(bio, &offsets().bio_status).map_or(0, u64::from)
}

/// A bio has been verified.
#[inline(always)]
fn verified<const LOOPED: bool>(bio: u64, iter: u64, status: u64) {
    // A status is a byte: the upper bits of the register are undefined.
    if status & 0xff != u64::from(BLK_STS_PROTECTION) {
        return;
    }
    if let Some(failure) = failure(bio, iter) {
        report_failure::<LOOPED>(WalkSlot::Verify, failure);
    }
}

#[inline(always)]
fn failure(bio: u64, iter: u64) -> Option<Failure> {
    let disk = disk_of(bio)?;
    let queue: u64 = member(disk, &offsets().disk_queue)?;
    let interval: u8 = member(queue, &offsets().queue_interval)?;
    let sector: u64 = member(iter, &offsets().iter_sector)?;
    let position = BioPosition::at(bio, iter);
    let logged = check_report::take_logged();
    let key = IntegrityKey {
        dev: disk_number(disk)?,
        op: direction(member(bio, &offsets().bio_opf)?),
        check: logged.check,
        source: logged.source,
    };
    let whole = u64::from(position.size);
    // Intervals before the failed one: the seed counts 1 for each (`t10_pi_verify`).
    let sound = logged.seed.wrapping_sub(sector);
    let before = sound.wrapping_shl(u32::from(interval));
    // The host verifies only reads that every lower device completed well: this is no repetition.
    let since_ns = u64::MAX;
    if logged.seed == 0 || sound > u64::from(u16::MAX) || before >= whole {
        return Some(Failure {
            key,
            position,
            sector,
            bytes: whole,
            since_ns,
            verified: 0,
            passed_on: 0,
        });
    }
    let mut bytes = 1 << (interval & 31);
    if bytes > whole - before {
        bytes = whole - before;
    }
    let position = advanced(position, before)?;
    let sector = sector + (before >> 9);
    Some(Failure { key, position, sector, bytes, since_ns, verified: before, passed_on: 0 })
}

/// The position after `bytes` more.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "less than the size of the bio, a u32")]
fn advanced(mut position: BioPosition, bytes: u64) -> Option<BioPosition> {
    let mut left = bytes as u32;
    let vec: u64 = member(position.bio, &offsets().bio_vec)?;
    position.size -= left;
    // Always as often, as in `stacked::length`. The iterations after the right element change nothing.
    for _ in 0..BIO_MAX_VECS {
        let len = word_32(vec_element(vec, u64::from(position.idx)), &offsets().vec_len);
        let rest = len.wrapping_sub(position.done);
        let found = mask_if_less(left, rest);
        left -= rest & !found;
        position.idx += 1 & !found;
        position.done &= found;
    }
    position.done += left;
    Some(position)
}

#[inline(always)]
fn save(arguments: [u64; 2]) {
    // SAFETY: no pointer is involved.
    let task = unsafe { bpf_get_current_task() };
    if VERIFICATIONS.insert(task, arguments, u64::from(BPF_ANY)).is_err() {
        count(Counter::SubmittersFull);
    }
}

#[inline(always)]
fn saved_arguments() -> Option<[u64; 2]> {
    // SAFETY: no pointer is involved.
    let task = unsafe { bpf_get_current_task() };
    // SAFETY: only this task writes its entry.
    let arguments = unsafe { VERIFICATIONS.get(task) }.copied()?;
    // May only fail if the entry has been evicted.
    let _ = VERIFICATIONS.remove(task);
    Some(arguments)
}
