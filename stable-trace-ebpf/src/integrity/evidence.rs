//! Copies the data of a failed check and its protection information, for the agent to compare.
//!
//! Both are still in memory when a completion fails: the bio has its pages, and its payload the tuples. Drivers
//! change the reference tags in place, never the guards.

use core::ffi::c_void;

use aya_ebpf::{
    Global,
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_RING_SIZE},
    helpers::generated::bpf_probe_read_kernel,
    macros::map,
    maps::{PerCpuArray, RingBuf},
};
use stable_trace_common::{
    counter::Counter,
    evidence::{
        CONTENT, DATA, DATA_AGAIN, EvidenceRecord, MAX_BIOS, MAX_PARTS, MAX_PARTS_AGAIN, TUPLES,
    },
};

use super::{
    bio::{BioPosition, own_iter, vec_element},
    failure::{Failure, NOT_VERIFIED},
    page_loop::{CONTINUE, LoopCtx, STOP, Step, for_each_page},
    pages::{Part, next_part},
    volatile::VolatileCell,
};
use crate::{
    maps::count,
    members::{offset, offsets, read_or_zero, word, word_32},
};

/// The evidence. The agent sets the size, the smallest if no device checks, and reads it when it reads a failure.
#[map]
static EVIDENCE: RingBuf = RingBuf::with_byte_size(1 << 12, 0);

/// 1: evidence is taken.
#[unsafe(no_mangle)]
static TAKE_EVIDENCE: Global<u32> = Global::new(0);

/// The address of the variable `page_offset_base`, where the kernel maps all memory, and of `vmemmap_base`, where
/// its `struct page`s are (arch/x86/mm/kaslr.c, 5.10 to 7.3), from `/proc/kallsyms`.
#[unsafe(no_mangle)]
static PAGE_OFFSET_BASE: Global<u64> = Global::new(0);
/// As [`PAGE_OFFSET_BASE`].
#[unsafe(no_mangle)]
static VMEMMAP_BASE: Global<u64> = Global::new(0);

/// How often evidence was taken in the current second.
#[map]
static EVIDENCE_RATE: PerCpuArray<Rate> = PerCpuArray::with_max_entries(1, 0);

/// Failures a second and CPU of which evidence is taken, at most.
const MOST_A_SECOND: u64 = 32;

#[repr(C)]
#[derive(Clone, Copy)]
struct Rate {
    /// Seconds of 2^30 ns.
    second: u64,
    taken: u64,
}

/// Copies what a failure compared, as far as there is room.
#[inline(always)]
pub(super) fn take<const LOOPED: bool>(ctx: &mut LoopCtx) {
    if TAKE_EVIDENCE.load() == 0 {
        return;
    }
    if !has_room() || !is_within_rate(ctx.now) {
        count(Counter::EvidenceSkipped);
        return;
    }
    copy::<LOOPED, CopyTuples>(TUPLES, ctx);
    copy::<LOOPED, CopyData>(DATA, ctx);
    copy::<LOOPED, CopyData>(DATA_AGAIN, ctx);
    // SAFETY: the loop's caller owns it.
    if unsafe { (*ctx.walk).evidence_lost.get() } != 0 {
        count(Counter::EvidenceSkipped);
    }
}

/// Counts a failure of which nothing can be copied.
#[inline(always)]
pub(super) fn skip() {
    if TAKE_EVIDENCE.load() != 0 {
        count(Counter::EvidenceSkipped);
    }
}

/// Whether half of the ring is free: room for all of a failure, on many CPUs at once.
#[inline(always)]
fn has_room() -> bool {
    let used = EVIDENCE.query(u64::from(BPF_RB_AVAIL_DATA));
    used < EVIDENCE.query(u64::from(BPF_RB_RING_SIZE)) / 2
}

/// Copies one kind of evidence from the begin of a failure.
#[inline(always)]
fn copy<const LOOPED: bool, S: Step>(kind: u32, ctx: &mut LoopCtx) {
    // SAFETY: the loop's caller owns both.
    unsafe { (*ctx.walk).begin(&*ctx.failure) };
    ctx.reading = kind;
    ctx.copied = 0;
    for_each_page::<LOOPED, S>(ctx);
}

/// Counts one failure of the current second; false if it is one too many.
#[inline(always)]
fn is_within_rate(now: u64) -> bool {
    let Some(rate) = EVIDENCE_RATE.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: a live map value. A program that interrupts this one may take one failure more.
    let rate = unsafe { &mut *rate };
    if rate.second != now >> 30 {
        *rate = Rate { second: now >> 30, taken: 0 };
    }
    rate.taken += 1;
    rate.taken <= MOST_A_SECOND
}

/// Copies one part of the data.
struct CopyData;

impl Step for CopyData {
    #[inline(always)]
    fn take(index: u32, ctx: &mut LoopCtx) -> u64 {
        // SAFETY: the loop's caller owns all of it, and it outlives the loop.
        let (walk, failure) = unsafe { (&mut *ctx.walk, &*ctx.failure) };
        let most = if ctx.reading == DATA { MAX_PARTS } else { MAX_PARTS_AGAIN };
        if index >= most {
            return STOP;
        }
        let Some(Part { page, in_page, length }) = next_part(walk) else {
            return STOP;
        };
        let Some(address) = address_of(page) else {
            return STOP;
        };
        let header = Header { kind: ctx.reading, at: ctx.copied, tuple_bytes: 0, now: ctx.now };
        if !send(failure, &header, address + u64::from(in_page), length, &mut walk.evidence_lost) {
            return STOP;
        }
        ctx.copied += u64::from(length);
        CONTINUE
    }
}

/// Copies the protection information of the rest of one bio, as far as it is in one piece, as the block layer
/// allocates it (`bio_integrity_prep`, block/bio-integrity.c, block/bio-integrity-auto.c).
struct CopyTuples;

impl Step for CopyTuples {
    #[inline(always)]
    fn take(index: u32, ctx: &mut LoopCtx) -> u64 {
        // SAFETY: as in `CopyData`.
        let (walk, failure) = unsafe { (&mut *ctx.walk, &*ctx.failure) };
        let bio = walk.bio.get();
        if index >= MAX_BIOS || bio == 0 {
            return STOP;
        }
        let flag = offset(&offsets().request_integrity);
        let flags = word_32(bio, &offsets().bio_opf);
        if flag >= 32 || flags >> flag & 1 == 0 {
            return STOP;
        }
        let payload = word(bio, &offsets().bio_integrity);
        let vec = word(payload, &offsets().payload_vec);
        let place = if failure.verified == NOT_VERIFIED {
            rest_of_tuples(bio, payload, vec)
        } else {
            tuples_after(failure, vec)
        };
        let Some(Tuples { address, length, all }) = place else {
            return STOP;
        };
        let header =
            Header { kind: TUPLES, at: u64::from(walk.size.get()), tuple_bytes: all, now: ctx.now };
        if !send(failure, &header, address, length, &mut walk.evidence_lost)
            || walk.chained.get() == 0
        {
            return STOP;
        }
        let next = word(bio, &offsets().bio_next);
        walk.bio.set(next);
        walk.size.set(word_32(own_iter(next), &offsets().iter_size));
        CONTINUE
    }
}

/// Where the tuples of the rest of a bio are.
struct Tuples {
    /// The address of the first piece.
    address: u64,
    /// Its length in bytes.
    length: u32,
    /// Bytes of all of them.
    all: u32,
}

/// Those that the payload's own iterator is at: a completion advances it as it does the bio's
/// (`bio_integrity_advance`, block/bio-integrity.c, 5.10 to 7.3).
#[inline(always)]
fn rest_of_tuples(bio: u64, payload: u64, vec: u64) -> Option<Tuples> {
    let iter = payload + u64::from(offset(&offsets().payload_own_iter));
    let BioPosition { size, idx, done, .. } = BioPosition::at(bio, iter);
    let element = vec_element(vec, u64::from(idx));
    let len = word_32(element, &offsets().vec_len);
    let length = len.wrapping_sub(done).min(size);
    Some(Tuples { address: start_of(element)? + u64::from(done), length, all: size })
}

/// Those behind what was verified: a verification begins at the first one, wherever the iterator is.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "less than the length of an element, a u32")]
fn tuples_after(failure: &Failure, vec: u64) -> Option<Tuples> {
    let len = word_32(vec, &offsets().vec_len);
    let data = failure.verified + u64::from(failure.position.size);
    let verified = (u64::from(len) * failure.verified).checked_div(data)?;
    let length = len.wrapping_sub(verified as u32);
    Some(Tuples { address: start_of(vec)? + verified, length, all: length })
}

/// The address of what an element of a vector is of.
#[inline(always)]
fn start_of(element: u64) -> Option<u64> {
    let page = word(element, &offsets().vec_page);
    let start = word_32(element, &offsets().vec_offset);
    Some(address_of(page)? + u64::from(start))
}

/// The fields of a record before its content.
struct Header {
    kind: u32,
    at: u64,
    tuple_bytes: u32,
    now: u64,
}

/// Sends bytes at an address of the kernel; false if it cannot be read, or there is no room, which sets `lost`.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "4,096")]
fn send(
    failure: &Failure,
    header: &Header,
    address: u64,
    length: u32,
    lost: &mut VolatileCell<u64>,
) -> bool {
    let Some(mut entry) = EVIDENCE.reserve::<EvidenceRecord>(0) else {
        lost.set(1);
        return false;
    };
    let record = entry.as_mut_ptr();
    let length = length.min(CONTENT as u32);
    // SAFETY: the reserved record is that large; the helper takes any address to read from.
    let failed = unsafe {
        (&raw mut (*record).kind).write(header.kind);
        (&raw mut (*record).length).write(length);
        (&raw mut (*record).time_ns).write(header.now);
        (&raw mut (*record).sector).write(failure.sector);
        (&raw mut (*record).dev).write(failure.key.dev);
        (&raw mut (*record).tuple_bytes).write(header.tuple_bytes);
        (&raw mut (*record).at).write(header.at);
        bpf_probe_read_kernel((&raw mut (*record).content).cast(), length, address as *const c_void)
            != 0
    };
    if failed {
        entry.discard(0);
    } else {
        entry.submit(0);
    }
    !failed
}

/// Where the kernel has mapped a page (`page_to_virt`, include/linux/mm.h, with `page_to_pfn` of
/// include/asm-generic/memory_model.h and `__va` of arch/x86/include/asm/page.h, 5.10 to 7.3).
#[inline(always)]
fn address_of(page: u64) -> Option<u64> {
    let memory = read_or_zero(PAGE_OFFSET_BASE.load());
    let pages = read_or_zero(VMEMMAP_BASE.load());
    let bytes = u64::from(offset(&offsets().page_bytes));
    if memory == 0 || pages == 0 || bytes == 0 || page < pages {
        return None;
    }
    let frame = (page - pages) / bytes;
    Some(memory + (frame << (offset(&offsets().page_shift) & 31)))
}
