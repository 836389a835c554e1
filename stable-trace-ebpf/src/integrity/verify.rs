//! Reads that completed well, and that the host then found to be wrong.
//!
//! A worker verifies (`bio_integrity_verify_fn`), through one function that has the bio and where it
//! began:
//! `blk_status_t bio_integrity_process(struct bio *bio, struct bvec_iter *proc_iter,
//! integrity_processing_fn *proc_fn)` (5.10, 6.1; for writes too, which do not fail),
//! `void blk_integrity_verify(struct bio *bio)` (6.12),
//! `void blk_integrity_verify_iter(struct bio *bio, struct bvec_iter *saved_iter)` (6.17),
//! `blk_status_t bio_integrity_verify(struct bio *bio, struct bvec_iter *saved_iter)` (7.3, also for
//! file systems that verify by themselves).

use aya_ebpf::{
    bindings::BPF_ANY,
    helpers::bpf_get_current_task,
    macros::{fexit, kprobe, kretprobe},
    programs::{FExitContext, ProbeContext, RetProbeContext},
};
use stable_trace_common::{
    counter::Counter,
    integrity::{BLK_STS_PROTECTION, IntegrityKey},
};

use super::{Failure, Lane, disk_number, disk_of, failed, operation, pages::Place, reason};
use crate::{
    folio::{member, offset, offsets},
    maps::{VERIFICATIONS, count_anywhere},
};

/// Every form, with a loop of the kernel's or without.
macro_rules! verifications {
    ($looped:literal, $three:ident, $two:ident, $iter:ident, $one:ident, $returns:ident, $bio:ident) => {
        /// With the bio and its iterator, of three arguments: the result is the argument after them.
        #[fexit]
        pub fn $three(ctx: FExitContext) -> i32 {
            verified::<$looped>(ctx.arg(0), ctx.arg(1), ctx.arg(3));
            0
        }

        /// With the bio and its iterator, of two arguments.
        #[fexit]
        pub fn $two(ctx: FExitContext) -> i32 {
            verified::<$looped>(ctx.arg(0), ctx.arg(1), ctx.arg(2));
            0
        }

        /// With the bio and its iterator; the bio gets the result.
        #[fexit]
        pub fn $iter(ctx: FExitContext) -> i32 {
            verified::<$looped>(ctx.arg(0), ctx.arg(1), status(ctx.arg(0)));
            0
        }

        /// With the bio, which has its iterator in its payload and gets the result.
        #[fexit]
        pub fn $one(ctx: FExitContext) -> i32 {
            let bio = ctx.arg(0);
            if let Some(iter) = payload_iter(bio) {
                verified::<$looped>(bio, iter, status(bio));
            }
            0
        }

        /// The result is returned.
        #[kretprobe]
        pub fn $returns(ctx: RetProbeContext) -> u32 {
            if let Some([bio, iter]) = kept() {
                verified::<$looped>(bio, iter, ctx.ret());
            }
            0
        }

        /// The bio gets the result.
        #[kretprobe]
        pub fn $bio(_ctx: RetProbeContext) -> u32 {
            if let Some([bio, iter]) = kept() {
                verified::<$looped>(bio, iter, status(bio));
            }
            0
        }
    };
}

verifications!(
    true,
    integrity_verify_3,
    integrity_verify_2,
    integrity_verify_iter,
    integrity_verify_1,
    integrity_verify_return,
    integrity_verify_return_bio
);
verifications!(
    false,
    integrity_verify_3_unrolled,
    integrity_verify_2_unrolled,
    integrity_verify_iter_unrolled,
    integrity_verify_1_unrolled,
    integrity_verify_return_unrolled,
    integrity_verify_return_bio_unrolled
);

/// A kretprobe does not see the arguments: they are kept meanwhile.
#[kprobe]
pub fn integrity_verify_enter(ctx: ProbeContext) -> u32 {
    if let (Some(bio), Some(iter)) = (ctx.arg(0), ctx.arg(1)) {
        keep([bio, iter]);
    }
    0
}

/// The same with the bio alone.
#[kprobe]
pub fn integrity_verify_enter_1(ctx: ProbeContext) -> u32 {
    if let Some(bio) = ctx.arg(0)
        && let Some(iter) = payload_iter(bio)
    {
        keep([bio, iter]);
    }
    0
}

/// Where a bio began, as its payload keeps it.
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
    // A status is a byte; what is above it in the register is not its.
    if status & 0xff != u64::from(BLK_STS_PROTECTION) {
        return;
    }
    if let Some(failure) = failure(bio, iter) {
        failed::<LOOPED>(Lane::Verify, &failure);
    }
}

#[inline(always)]
fn failure(bio: u64, iter: u64) -> Option<Failure> {
    let disk = disk_of(bio)?;
    let queue: u64 = member(disk, &offsets().disk_queue)?;
    let interval: u8 = member(queue, &offsets().queue_interval)?;
    let sector: u64 = member(iter, &offsets().iter_sector)?;
    let place = Place::at(bio, iter)?;
    let reason = reason::logged();
    let key = IntegrityKey {
        dev: disk_number(disk)?,
        op: operation(member(bio, &offsets().bio_opf)?),
        check: reason.check,
        source: reason.source,
    };
    let whole = u64::from(place.size);
    // How many intervals were sound: the seed counts one for each (`t10_pi_verify`).
    let sound = reason.seed.wrapping_sub(sector);
    let before = sound.wrapping_shl(u32::from(interval));
    // Only what every device below has completed well is verified: none has told of it before.
    let since_ns = u64::MAX;
    if reason.seed == 0 || sound > u64::from(u16::MAX) || before >= whole {
        return Some(Failure { key, place, sector, bytes: whole, since_ns });
    }
    let mut bytes = 1 << (interval & 31);
    if bytes > whole - before {
        bytes = whole - before;
    }
    let place = advanced(place, before)?;
    Some(Failure { key, place, sector: sector + (before >> 9), bytes, since_ns })
}

/// Elements of a vector that are passed over at most: `BIO_MAX_VECS`, include/linux/bio.h.
const ELEMENTS: u16 = 256;

/// A place so many bytes further on.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "less than the size of the bio, a u32")]
fn advanced(mut place: Place, bytes: u64) -> Option<Place> {
    let mut left = bytes as u32;
    let vec: u64 = member(place.bio, &offsets().bio_vec)?;
    place.size -= left;
    for _ in 0..ELEMENTS {
        let len: u32 = member(vec + 16 * u64::from(place.idx), &offsets().vec_len)?;
        let rest = len.wrapping_sub(place.done);
        if left < rest {
            place.done += left;
            return Some(place);
        }
        left -= rest;
        place.idx += 1;
        place.done = 0;
    }
    None
}

#[inline(always)]
fn keep(arguments: [u64; 2]) {
    // SAFETY: no pointer is involved.
    let task = unsafe { bpf_get_current_task() };
    if VERIFICATIONS.insert(task, arguments, u64::from(BPF_ANY)).is_err() {
        count_anywhere(Counter::SubmittersFull);
    }
}

#[inline(always)]
fn kept() -> Option<[u64; 2]> {
    // SAFETY: no pointer is involved.
    let task = unsafe { bpf_get_current_task() };
    // SAFETY: only this task writes its entry.
    let arguments = unsafe { VERIFICATIONS.get(task) }.copied()?;
    // It was there a moment ago and nobody else removes it.
    let _ = VERIFICATIONS.remove(task);
    Some(arguments)
}
