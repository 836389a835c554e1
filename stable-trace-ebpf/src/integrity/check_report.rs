//! Which check failed, as a driver decodes it or the host logs it just before the failure.
//!
//! The kernel skips a kprobe's program that interrupts another one's on the same CPU, so a busy machine
//! misses some reports. Drivers are probed only where [`super::driver_pdu`] cannot read the same.

use aya_ebpf::{
    bindings::BPF_ANY,
    helpers::bpf_get_current_task,
    macros::{kprobe, map},
    maps::LruHashMap,
    programs::ProbeContext,
};
use stable_trace_common::{
    counter::Counter,
    integrity::{
        BLOCK, GUARD, NVME, REFERENCE_TAG, SCSI, SENSE_BYTES, UNKNOWN_CHECK, VERIFY, nvme_check,
        sense_check,
    },
};

use crate::{maps::count, members::read};

/// The check that a driver last reported in a task, or in an interrupt of it, by `task_struct`, for the latest tasks. Not
/// by CPU: a completion in a thread can be preempted, and go on on another CPU.
#[map]
static DRIVER_REPORTS: LruHashMap<u64, FailedCheck> = LruHashMap::with_max_entries(1024, 0);

/// The check whose failure a task last logged, as above.
#[map]
static LOGGED_CHECKS: LruHashMap<u64, FailedCheck> = LruHashMap::with_max_entries(1024, 0);

/// A failed check, reported before the failure itself is seen.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct FailedCheck {
    /// As `IntegrityKey::source`.
    pub(super) source: u32,
    /// As `IntegrityKey::check`.
    pub(super) check: u32,
    /// Position of the failed interval, from the host's verification: the first sector of the bio plus
    /// 1 for each protection interval before it; 0 from a driver.
    pub(super) seed: u64,
}

impl FailedCheck {
    /// No report.
    const NONE: Self = Self { source: BLOCK, check: UNKNOWN_CHECK, seed: 0 };
}

const _: () = assert!(size_of::<FailedCheck>() == 16);

/// `bool scsi_normalize_sense(const u8 *sense_buffer, int sb_len, struct scsi_sense_hdr *sshdr)`
/// [`scsi_common`] (6.1 to 7.3), built in (5.10). `scsi_io_completion` calls it, and then
/// `blk_update_request`, with no other completion in between.
#[kprobe]
fn integrity_sense(ctx: ProbeContext) -> u32 {
    let (Some(sense), Some(length)) = (ctx.arg::<u64>(0), ctx.arg::<u32>(1)) else {
        return 0;
    };
    let sense = read::<[u8; SENSE_BYTES]>(sense);
    let check = sense.ok().and_then(|sense| sense_check(&sense, length));
    // Sense data about anything else clears the report before it.
    set_report(check.map(|check| FailedCheck { source: SCSI, check, seed: 0 }));
    0
}

/// `static blk_status_t nvme_error_status(u16 status)` [`nvme_core`] (5.10 to 7.3). `nvme_end_req`
/// calls it with the status of the last try, right before it ends the request.
#[kprobe]
fn integrity_nvme_status(ctx: ProbeContext) -> u32 {
    let check = ctx.arg::<u32>(0).and_then(nvme_check);
    set_report(check.map(|check| FailedCheck { source: NVME, check, seed: 0 }));
    0
}

/// `int _printk(const char *fmt, ...)` (6.1 to 7.3), `printk` (5.10). Which check of the host failed,
/// and where, is only in the log. `t10_pi_verify`, block/t10-pi.c, 5.10 to 7.3:
/// `pr_err("%s: guard tag error at sector %llu (rcvd %04x, want %04x)\n", …)` and
/// `pr_err("%s: ref tag error at location %llu (rcvd %u)\n", …)`.
#[kprobe]
fn integrity_log(ctx: ProbeContext) -> u32 {
    let (Some(format), Some(seed)) = (ctx.arg::<u64>(0), ctx.arg::<u64>(2)) else {
        return 0;
    };
    let Ok(start) = read::<[u8; 16]>(format) else {
        return 0;
    };
    let check = match &start {
        b"\x013%s: guard tag " => GUARD,
        b"\x013%s: ref tag er" => REFERENCE_TAG,
        _ => return 0,
    };
    // SAFETY: no pointer is involved.
    let task = unsafe { bpf_get_current_task() };
    let logged = FailedCheck { source: VERIFY, check, seed };
    if LOGGED_CHECKS.insert(task, logged, u64::from(BPF_ANY)).is_err() {
        count(Counter::SubmittersFull);
    }
    0
}

/// Takes the failed check that the current task last logged.
#[inline(always)]
pub(super) fn take_logged() -> FailedCheck {
    // SAFETY: no pointer is involved.
    let task = unsafe { bpf_get_current_task() };
    // SAFETY: only this task writes its entry.
    let logged = unsafe { LOGGED_CHECKS.get(task) }.copied();
    match logged {
        Some(logged) => {
            // May only fail if the entry has been evicted.
            let _ = LOGGED_CHECKS.remove(task);
            logged
        }
        None => FailedCheck { source: VERIFY, check: UNKNOWN_CHECK, seed: 0 },
    }
}

/// Replaces the report of the current task, or removes it.
#[inline(always)]
fn set_report(check: Option<FailedCheck>) {
    // SAFETY: no pointer is involved.
    let task = unsafe { bpf_get_current_task() };
    let Some(check) = check else {
        // Fails if there is none.
        let _ = DRIVER_REPORTS.remove(task);
        return;
    };
    if DRIVER_REPORTS.insert(task, check, u64::from(BPF_ANY)).is_err() {
        count(Counter::SubmittersFull);
    }
}

/// Takes the failed check that a driver last reported in the current task.
#[inline(always)]
pub(super) fn take_reported() -> FailedCheck {
    // SAFETY: no pointer is involved.
    let task = unsafe { bpf_get_current_task() };
    // SAFETY: only this task, and interrupts of it that run to their end, write its entry.
    let Some(reported) = unsafe { DRIVER_REPORTS.get(task) }.copied() else {
        return FailedCheck::NONE;
    };
    // May only fail if the entry has been evicted.
    let _ = DRIVER_REPORTS.remove(task);
    reported
}
