//! Which task submitted a bio that has protection information.

use aya_ebpf::{
    bindings::BPF_ANY,
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns},
    macros::{fentry, kprobe, map},
    maps::LruHashMap,
    programs::{FEntryContext, ProbeContext},
};
use stable_trace_common::{counter::Counter, task::COMM_LEN};

use super::bio::own_iter;
use crate::{
    filter,
    maps::count,
    members::{member, offsets, word},
};

/// The submitters of the latest bios, by the address of the bio.
#[map]
static SUBMITTERS: LruHashMap<u64, Submitter> = LruHashMap::with_max_entries(16_384, 0);

/// The task that submitted a bio.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Submitter {
    /// `tgid` in the upper half, `pid` in the lower.
    pub(super) pid_tgid: u64,
    /// When the task submitted it, and its protection information was made: `CLOCK_MONOTONIC` in ns.
    pub(super) time_ns: u64,
    /// First sector of the bio, in units of 512 bytes.
    sector: u64,
    /// Length of the bio in bytes.
    bytes: u64,
    /// Name of the thread, NUL-padded.
    pub(super) comm: [u8; COMM_LEN],
}

const _: () = assert!(size_of::<Submitter>() == 32 + COMM_LEN);

/// Who submitted the bio that a failed part at this sector belongs to. An entry of another bio that had the same
/// address before is of another place on the disk.
#[inline(always)]
pub(super) fn submitter_of(bio: u64, sector: u64) -> Option<&'static Submitter> {
    // SAFETY: an entry may be replaced meanwhile, by that of another bio: then the sector differs.
    let submitter = unsafe { SUBMITTERS.get(bio) }?;
    (sector.wrapping_sub(submitter.sector) < submitter.bytes >> 9).then_some(submitter)
}

/// `bool bio_integrity_prep(struct bio *bio)` (5.10 to 6.12), `void bio_integrity_prep(struct bio
/// *bio, unsigned int action)` (7.3), block/bio-integrity.c and block/bio-integrity-auto.c. Only the
/// task that submits a bio to a device with protection information calls it.
#[fentry]
fn integrity_submit(ctx: FEntryContext) -> i32 {
    submitted(ctx.arg(0), 0);
    0
}

/// `bool bio_integrity_prep(struct bio *bio)` (5.10 to 6.12), `void bio_integrity_prep(struct bio
/// *bio, unsigned int action)` (7.3).
#[kprobe]
fn integrity_submit_kprobe(ctx: ProbeContext) -> u32 {
    if let Some(bio) = ctx.arg(0) {
        submitted(bio, 0);
    }
    0
}

/// `void fs_bio_integrity_alloc(struct bio *bio)`, block/bio-integrity-fs.c (7.1 to 7.3): a file system that makes
/// and checks protection information itself, as XFS does, calls it for each bio that it submits.
/// `int bio_integrity_map_iter(struct bio *bio, struct uio_meta *meta)`, block/bio-integrity.c (6.13 to 7.3):
/// for a bio whose protection information user space supplies. The block layer has not yet counted the sector of either
/// from the begin of the disk (`blk_partition_remap`, block/blk-core.c).
#[kprobe]
fn integrity_submit_early(ctx: ProbeContext) -> u32 {
    if let Some(bio) = ctx.arg(0) {
        let device = word(bio, &offsets().bio_bdev);
        submitted(bio, word(device, &offsets().bdev_start));
    }
    0
}

/// Remembers the current task. `start`: what is to be added to the bio's sector.
#[inline(always)]
fn submitted(bio: u64, start: u64) {
    let submitter = Submitter {
        pid_tgid: bpf_get_current_pid_tgid(),
        // SAFETY: no pointer is involved.
        time_ns: unsafe { bpf_ktime_get_ns() },
        sector: start + word(own_iter(bio), &offsets().iter_sector),
        bytes: u64::from(member::<u32>(own_iter(bio), &offsets().iter_size).unwrap_or(0)),
        comm: filter::current_comm(),
    };
    if SUBMITTERS.insert(bio, submitter, u64::from(BPF_ANY)).is_err() {
        count(Counter::SubmittersFull);
    }
}
