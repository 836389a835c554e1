//! Counting a failure and writing its record.

use core::ptr;

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    helpers::bpf_ktime_get_ns,
    macros::map,
    maps::{HashMap, ring_buf::RingBufEntry},
};
use stable_trace_common::{
    counter::Counter,
    integrity::{IntegrityKey, PageRun, RUNS},
    record::{INTEGRITY, IntegrityRecord, SEVERAL_COMM},
    task::{COMM_LEN, process_and_thread},
};

use super::{
    evidence,
    failure::Failure,
    page_loop::{LoopCtx, for_each_page},
    pages::Collect,
    repeated::{FindOnLowerDevice, REPEATED, Remember, since},
    runs::{Describe, Group},
    submit::submitter_of,
    submitters::{CompareSubmitters, SEVERAL},
    walk::{PageWalk, WalkSlot},
};
use crate::{
    maps::{EVENTS, add_one, count, wake_up},
    members::{make_unknown, offset, offsets},
};

/// Integrity failures, by disk, operation, check and source. One value for all CPUs, added to
/// atomically.
#[map]
static INTEGRITY_ERRORS: HashMap<IntegrityKey, u64> = HashMap::with_max_entries(1024, 0);

/// Counts and streams a failure, unless it was already counted for a lower device.
#[inline(always)]
pub(super) fn report_failure<const LOOPED: bool>(slot: WalkSlot, mut failure: Failure) {
    make_unknown(&mut failure);
    let failure = &failure;
    // SAFETY: no pointer is involved.
    let now = unsafe { bpf_ktime_get_ns() };
    let Some(walk) = PageWalk::take(slot) else {
        // This program has interrupted another one of its kind: the failure is reported without pages.
        count_failure(&failure.key);
        evidence::skip();
        if let Some(entry) = begin_record(failure, now) {
            submit_record(entry);
        }
        return;
    };
    walk.begin(failure);
    walk.evidence_lost.set(0);
    walk.submitters.set(0);
    let mut ctx = LoopCtx {
        walk,
        failure,
        runs: ptr::null_mut(),
        now,
        since: since(failure, now),
        repeated: 0,
        reading: 0,
        copied: 0,
    };
    for_each_page::<LOOPED, Collect>(&mut ctx);
    // The failed page may be one of those that there was no room for.
    let is_whole = walk.left.get() == 0;
    for_each_page::<LOOPED, FindOnLowerDevice>(&mut ctx);
    if ctx.repeated == REPEATED || (failure.passed_on != 0 && !is_whole) {
        count(Counter::IntegrityRepeated);
    } else {
        for_each_page::<LOOPED, Remember>(&mut ctx);
        count_failure(&failure.key);
        if let Some(mut entry) = begin_record(failure, now) {
            // SAFETY: the reservation is as large as the record, and `begin_record` has written all
            // of it.
            ctx.runs = unsafe { &raw mut (*entry.as_mut_ptr()).runs };
            for_each_page::<LOOPED, Group>(&mut ctx);
            for_each_page::<LOOPED, Describe>(&mut ctx);
            walk.begin(failure);
            for_each_page::<LOOPED, CompareSubmitters>(&mut ctx);
            if walk.submitters.get() != 0 {
                forget_submitter(&mut entry, walk.submitters.get());
            }
            evidence::take::<LOOPED>(&mut ctx);
            submit_record(entry);
        }
    }
    walk.release();
}

#[inline(always)]
pub(super) fn count_failure(key: &IntegrityKey) {
    if add(key) {
        return;
    }
    // Fails if the map is full, or if another CPU was first: the next look-up tells which.
    let _ = INTEGRITY_ERRORS.insert(key, 0, u64::from(BPF_NOEXIST));
    if !add(key) {
        count(Counter::IntegrityFull);
    }
}

/// Adds 1 to an existing count; false if there is none.
#[inline(always)]
fn add(key: &IntegrityKey) -> bool {
    let Some(value) = INTEGRITY_ERRORS.get_ptr_mut(key) else {
        return false;
    };
    // SAFETY: a live, aligned map value, to which every writer adds atomically. A completion may
    // interrupt a verification on the same CPU.
    unsafe { add_one(value) };
    true
}

/// Reserves a record and writes everything except its page runs.
#[inline(always)]
fn begin_record(failure: &Failure, now: u64) -> Option<RingBufEntry<IntegrityRecord>> {
    let mut entry = reserve_record(&failure.key, failure.sector, failure.bytes, now)?;
    let record = entry.as_mut_ptr();
    // SAFETY: `reserve_record` has written all of the record.
    unsafe {
        // `u64::MAX`: not known.
        (*record).began_ns = if failure.since_ns < now { failure.since_ns } else { 0 };
        if let Some(submitter) = submitter_of(failure.position.bio, failure.sector) {
            let (pid, tid) = process_and_thread(submitter.pid_tgid);
            (*record).pid = pid;
            (*record).tid = tid;
            (*record).comm = submitter.comm;
            (*record).began_ns = submitter.time_ns;
        }
    }
    Some(entry)
}

/// Reserves a record, without pages, submitter and begin.
#[inline(always)]
pub(super) fn reserve_record(
    key: &IntegrityKey,
    sector: u64,
    bytes: u64,
    now: u64,
) -> Option<RingBufEntry<IntegrityRecord>> {
    let Some(mut entry) = EVENTS.reserve::<IntegrityRecord>(0) else {
        count(Counter::IntegrityLost);
        return None;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: the reservation is as large as the record and aligned to 8 bytes; every field is
    // written here.
    unsafe {
        (*record).kind = INTEGRITY;
        (*record).size = IntegrityRecord::SIZE;
        (*record).time_ns = now;
        (*record).sector = sector;
        (*record).sectors = bytes >> 9;
        let shift = offset(&offsets().page_shift) & 31;
        (*record).pages = (bytes + (1 << shift) - 1) >> shift;
        (*record).key = *key;
        (*record).pid = 0;
        (*record).tid = 0;
        (*record).comm = [0; COMM_LEN];
        (*record).began_ns = 0;
        (*record).runs = [PageRun::EMPTY; RUNS];
    }
    Some(entry)
}

/// Removes the submitter of the first bio: those of the others differ, or are not known.
#[inline(always)]
fn forget_submitter(entry: &mut RingBufEntry<IntegrityRecord>, submitters: u64) {
    let record = entry.as_mut_ptr();
    // SAFETY: `begin_record` has written all of the record.
    unsafe {
        (*record).pid = 0;
        (*record).tid = 0;
        (*record).comm = if submitters == SEVERAL { SEVERAL_COMM } else { [0; COMM_LEN] };
    }
}

#[inline(always)]
pub(super) fn submit_record(entry: RingBufEntry<IntegrityRecord>) {
    entry.submit(wake_up());
    count(Counter::IntegrityStreamed);
}
