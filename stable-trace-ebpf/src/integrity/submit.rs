//! Who submitted a bio that protection information belongs to.

use aya_ebpf::{
    bindings::BPF_ANY,
    helpers::bpf_get_current_pid_tgid,
    macros::{fentry, kprobe},
    programs::{FEntryContext, ProbeContext},
};
use stable_trace_common::{counter::Counter, integrity::Submitter};

use crate::{
    filter,
    maps::{SUBMITTERS, count_anywhere},
};

/// `bool bio_integrity_prep(struct bio *bio)` (5.10 to 6.12), `void bio_integrity_prep(struct bio
/// *bio, unsigned int action)` (7.3), block/bio-integrity.c and block/bio-integrity-auto.c: the task
/// that submits a bio to a device with protection information calls it, and nobody else does.
#[fentry]
pub fn integrity_submit(ctx: FEntryContext) -> i32 {
    submitted(ctx.arg(0));
    0
}

/// The same by breakpoint or ftrace.
#[kprobe]
pub fn integrity_submit_kprobe(ctx: ProbeContext) -> u32 {
    if let Some(bio) = ctx.arg(0) {
        submitted(bio);
    }
    0
}

#[inline(always)]
fn submitted(bio: u64) {
    let submitter =
        Submitter { pid_tgid: bpf_get_current_pid_tgid(), comm: filter::current_comm() };
    if SUBMITTERS.insert(bio, submitter, u64::from(BPF_ANY)).is_err() {
        count_anywhere(Counter::SubmittersFull);
    }
}
