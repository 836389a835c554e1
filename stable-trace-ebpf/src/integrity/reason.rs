//! What was wrong: a driver decodes it, or the host writes it to the log, just before the failure.
//!
//! The kernel skips a kprobe's program that interrupts another one's on the same CPU, so some of it is
//! missed on a busy machine; drivers are probed only where [`super::behind`] cannot look.

use aya_ebpf::{
    bindings::BPF_ANY,
    helpers::{bpf_get_current_task, bpf_probe_read_kernel},
    macros::kprobe,
    programs::ProbeContext,
};
use stable_trace_common::{
    counter::Counter,
    integrity::{
        BLOCK, GUARD, NVME, REFERENCE_TAG, Reason, SCSI, SENSE_BYTES, UNKNOWN_CHECK, VERIFY,
        nvme_check, sense_check,
    },
};

use crate::maps::{LOGGED, REASONS, count_anywhere};

/// `bool scsi_normalize_sense(const u8 *sense_buffer, int sb_len, struct scsi_sense_hdr *sshdr)`
/// [`scsi_common`] (6.1 to 7.3), of the kernel itself (5.10). `scsi_io_completion` calls it, and
/// then, on the same CPU and with nothing in between, `blk_update_request`.
#[kprobe]
pub fn integrity_sense(ctx: ProbeContext) -> u32 {
    let (Some(sense), Some(length)) = (ctx.arg::<u64>(0), ctx.arg::<u32>(1)) else {
        return 0;
    };
    // SAFETY: the helper takes any address, and fails on one that cannot be read.
    let read = unsafe { bpf_probe_read_kernel(sense as *const [u8; SENSE_BYTES]) };
    let check = read.ok().and_then(|sense| sense_check(&sense, length));
    // Sense about something else clears what was said before.
    say(check.map_or(Reason::NONE, |check| Reason { source: SCSI, check, seed: 0 }));
    0
}

/// `static blk_status_t nvme_error_status(u16 status)` [`nvme_core`] (5.10 to 7.3), which
/// `nvme_end_req` calls with the status of the last try, right before it ends the request.
#[kprobe]
pub fn integrity_nvme_status(ctx: ProbeContext) -> u32 {
    let check = ctx.arg::<u32>(0).and_then(nvme_check);
    say(check.map_or(Reason::NONE, |check| Reason { source: NVME, check, seed: 0 }));
    0
}

/// `int _printk(const char *fmt, ...)` (6.1 to 7.3), `printk` (5.10): the host tells only its log
/// which check failed, and where. `t10_pi_verify`, block/t10-pi.c, 5.10 to 7.3:
/// `pr_err("%s: guard tag error at sector %llu (rcvd %04x, want %04x)\n", …)` and
/// `pr_err("%s: ref tag error at location %llu (rcvd %u)\n", …)`.
#[kprobe]
pub fn integrity_log(ctx: ProbeContext) -> u32 {
    let (Some(format), Some(seed)) = (ctx.arg::<u64>(0), ctx.arg::<u64>(2)) else {
        return 0;
    };
    // SAFETY: the helper takes any address, and fails on one that cannot be read.
    let Ok(start) = (unsafe { bpf_probe_read_kernel(format as *const [u8; 16]) }) else {
        return 0;
    };
    let check = match &start {
        b"\x013%s: guard tag " => GUARD,
        b"\x013%s: ref tag er" => REFERENCE_TAG,
        _ => return 0,
    };
    // SAFETY: no pointer is involved.
    let task = unsafe { bpf_get_current_task() };
    let reason = Reason { source: VERIFY, check, seed };
    if LOGGED.insert(task, reason, u64::from(BPF_ANY)).is_err() {
        count_anywhere(Counter::SubmittersFull);
    }
    0
}

/// What the current task has last written to the log of a failed check.
#[inline(always)]
pub fn logged() -> Reason {
    // SAFETY: no pointer is involved.
    let task = unsafe { bpf_get_current_task() };
    // SAFETY: only this task writes its entry.
    let reason = unsafe { LOGGED.get(task) }.copied();
    match reason {
        Some(reason) => {
            // It was there a moment ago and nobody else removes it.
            let _ = LOGGED.remove(task);
            reason
        }
        None => Reason { source: VERIFY, check: UNKNOWN_CHECK, seed: 0 },
    }
}

#[inline(always)]
fn say(reason: Reason) {
    if let Some(slot) = REASONS.get_ptr_mut(0) {
        // SAFETY: a live per-CPU map value. Whoever writes it is on its way to the failure that it
        // is about, on this CPU.
        unsafe { *slot = reason };
    }
}

/// What a driver last said on this CPU, once.
#[inline(always)]
pub fn take() -> Reason {
    let Some(slot) = REASONS.get_ptr_mut(0) else {
        return Reason::NONE;
    };
    // SAFETY: as in `say`.
    let reason = unsafe { *slot };
    say(Reason::NONE);
    if reason.source == BLOCK { Reason::NONE } else { reason }
}
