//! Group `integrity`: checks of protection information that failed, wherever they are made.
//!
//! A failure is seen at one of three places: a request that its device failed ([`request`]), a read
//! that went well and that the host then found to be wrong ([`verify`]), and a bio that a stacked
//! device without requests failed ([`stacked`]). What was wrong is kept by the driver behind its
//! request ([`behind`]), or was said a moment earlier, by the driver or to the log ([`reason`]). What
//! stacked devices report once more is told by the pages: see [`below`].

mod behind;
mod pages;
mod reason;
mod request;
mod stacked;
mod submit;
mod verify;

use core::ptr;

use aya_ebpf::{
    bindings::{BPF_ANY, BPF_NOEXIST},
    helpers::bpf_ktime_get_ns,
    maps::ring_buf::RingBufEntry,
};
use stable_trace_common::{
    counter::Counter,
    integrity::{Failed, IntegrityKey, PageRun, RUNS},
    offsets::ABSENT,
    record::{COMM_LEN, INTEGRITY, IntegrityRecord, process_and_thread},
};

use crate::{
    emit,
    folio::{member, offset, offsets},
    maps::{EVENTS, FAILED, INTEGRITY_ERRORS, SUBMITTERS, add_one, count_anywhere},
};
pub use pages::Walk;
use pages::{GO_ON, Place, STOP, Turn, turns};

/// How long a device above may take to report a failure once more, where its request does not say
/// when it began, in ns.
const REPEATED_WITHIN_NS: u64 = 1_000_000_000;

/// One failure.
#[repr(C)]
pub struct Failure {
    /// What it is counted as.
    key: IntegrityKey,
    /// Where its pages begin.
    place: Place,
    /// First sector, in units of 512 bytes on the whole disk.
    sector: u64,
    /// Length in bytes.
    bytes: u64,
    /// When what failed had begun, by `CLOCK_MONOTONIC` in ns; 0 if not known, the greatest number if
    /// nothing below can have failed it.
    since_ns: u64,
}

/// The kinds of programs that see failures: one may interrupt another.
#[derive(Clone, Copy)]
#[repr(u32)]
enum Lane {
    Request = 0,
    Stacked = 1,
    Verify = 2,
}

/// How many there are.
pub const LANES: u32 = 3;

/// Counts and streams a failure, unless a device below has.
#[inline(always)]
fn failed<const LOOPED: bool>(lane: Lane, failure: &Failure) {
    // SAFETY: no pointer is involved.
    let now = unsafe { bpf_ktime_get_ns() };
    let Some(walk) = Walk::take(lane as u32) else {
        // It has interrupted another: counted and told, with its pages left out.
        tally(&failure.key);
        if let Some(entry) = begin(failure, now) {
            finish(entry);
        }
        return;
    };
    walk.begin(failure);
    let mut turn = Turn { walk, failure, runs: ptr::null_mut(), now, answer: 0 };
    turns::<LOOPED>(pages::collect, &mut turn);
    turns::<LOOPED>(below, &mut turn);
    if turn.answer == BELOW {
        count_anywhere(Counter::IntegrityRepeated);
    } else {
        turns::<LOOPED>(remember, &mut turn);
        tally(&failure.key);
        if let Some(mut entry) = begin(failure, now) {
            // SAFETY: the reservation is as large as the record, and `begin` has written all of it.
            turn.runs = unsafe { &raw mut (*entry.as_mut_ptr()).runs };
            turns::<LOOPED>(pages::group, &mut turn);
            turns::<LOOPED>(pages::describe, &mut turn);
            finish(entry);
        }
    }
    walk.release();
}

/// [`Turn::answer`] of [`below`]: a device below has.
const BELOW: u64 = 1;

/// Turn: whether a device below has failed this page since what failed here began: the same failure
/// on its way up. A loop device over a disk reports the disk's failures as its own, and so does
/// device mapper. The pages are the same all the way down.
extern "C" fn below(index: u32, turn: *mut Turn) -> u64 {
    // SAFETY: whoever runs the turns has all of it, and it outlives them.
    let (turn, walk, failure) = unsafe { (&mut *turn, &*(*turn).walk, &*(*turn).failure) };
    let Some(page) = walk.page(index) else {
        return STOP;
    };
    let since = if failure.since_ns == 0 {
        turn.now.saturating_sub(REPEATED_WITHIN_NS)
    } else {
        failure.since_ns
    };
    // SAFETY: an entry is replaced as a whole, and a torn one would only be of the same page.
    if let Some(other) = unsafe { FAILED.get(page) }
        && other.dev != failure.key.dev
        && other.time_ns >= since
    {
        turn.answer = BELOW;
        return STOP;
    }
    GO_ON
}

/// Turn: keeps the page for whoever is above.
extern "C" fn remember(index: u32, turn: *mut Turn) -> u64 {
    // SAFETY: as in `below`.
    let (turn, walk, failure) = unsafe { (&*turn, &*(*turn).walk, &*(*turn).failure) };
    let Some(page) = walk.page(index) else {
        return STOP;
    };
    let entry = Failed { time_ns: turn.now, dev: failure.key.dev, unused: 0 };
    if FAILED.insert(page, entry, u64::from(BPF_ANY)).is_err() {
        count_anywhere(Counter::FailedFull);
    }
    GO_ON
}

#[inline(always)]
fn tally(key: &IntegrityKey) {
    if add(key) {
        return;
    }
    // Fails if the map is full, or if another CPU was first: the next look tells which.
    let _ = INTEGRITY_ERRORS.insert(key, 0, u64::from(BPF_NOEXIST));
    if !add(key) {
        count_anywhere(Counter::IntegrityFull);
    }
}

#[inline(always)]
fn add(key: &IntegrityKey) -> bool {
    let Some(value) = INTEGRITY_ERRORS.get_ptr_mut(key) else {
        return false;
    };
    // SAFETY: a live, aligned map value that everybody adds to atomically. One value for all CPUs:
    // a completion may interrupt a verification on the same CPU.
    unsafe { add_one(value) };
    true
}

/// Writes a record but for its pages.
#[inline(always)]
fn begin(failure: &Failure, now: u64) -> Option<RingBufEntry<IntegrityRecord>> {
    let Some(mut entry) = EVENTS.reserve::<IntegrityRecord>(0) else {
        count_anywhere(Counter::IntegrityLost);
        return None;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: the reservation is as large as the record and aligned to 8 bytes; every field is
    // written here.
    unsafe {
        (*record).kind = INTEGRITY;
        (*record).size = IntegrityRecord::SIZE;
        (*record).time_ns = now;
        (*record).sector = failure.sector;
        (*record).sectors = failure.bytes >> 9;
        let shift = offset(&offsets().page_shift) & 31;
        (*record).pages = (failure.bytes + (1 << shift) - 1) >> shift;
        (*record).key = failure.key;
        (*record).pid = 0;
        (*record).tid = 0;
        (*record).comm = [0; COMM_LEN];
        if let Some(submitter) = SUBMITTERS.get(failure.place.bio) {
            let (pid, tid) = process_and_thread(submitter.pid_tgid);
            (*record).pid = pid;
            (*record).tid = tid;
            (*record).comm = submitter.comm;
        }
        (*record).runs = [PageRun::EMPTY; RUNS];
    }
    Some(entry)
}

#[inline(always)]
fn finish(entry: RingBufEntry<IntegrityRecord>) {
    entry.submit(emit::wake_up());
    count_anywhere(Counter::IntegrityStreamed);
}

/// The disk that a bio is for.
#[inline(always)]
fn disk_of(bio: u64) -> Option<u64> {
    if offset(&offsets().bio_disk) == ABSENT {
        let device: u64 = member(bio, &offsets().bio_bdev)?;
        return member(device, &offsets().bdev_disk);
    }
    member(bio, &offsets().bio_disk)
}

/// The number of a disk, as a `dev_t`.
#[inline(always)]
fn disk_number(disk: u64) -> Option<u32> {
    let major: u32 = member(disk, &offsets().disk_major)?;
    let minor: u32 = member(disk, &offsets().disk_minor)?;
    Some(stable_trace_common::backing::dev_t(major, minor))
}

/// Whether data goes to the device: `op_is_write`, `include/linux/blk_types.h`, 5.10 to 7.3.
#[inline(always)]
const fn operation(flags: u32) -> u32 {
    flags & 1
}
