//! Stall time by thread name: complete even if the stream loses records.

use aya_ebpf::{bindings::BPF_NOEXIST, macros::map, maps::PerCpuHashMap};
use stable_trace_common::{
    process::{ProcessKey, ProcessStalls},
    waiter::Waiter,
};

/// Stall time by thread name and stack. If it is full, stalls are added to [`ProcessKey::OVERFLOW`].
#[map]
static PROCESS_STALLS: PerCpuHashMap<ProcessKey, ProcessStalls> =
    PerCpuHashMap::with_max_entries(4_096, 0);

/// Adds a finished stall to its thread's name.
///
/// Not inlined: its frame would not fit beside its caller's.
#[inline(never)]
pub(crate) fn add_stall(waiter: &Waiter, duration_ns: u64) {
    let key = ProcessKey { comm: waiter.comm, stack: waiter.stack };
    if add(&key, duration_ns) {
        return;
    }
    // Fails if the map is full, or if another CPU was first: the next look-up tells which.
    let _ = PROCESS_STALLS.insert(key, ProcessStalls::EMPTY, u64::from(BPF_NOEXIST));
    if !add(&key, duration_ns) {
        add(&ProcessKey::OVERFLOW, duration_ns);
    }
}

/// Adds to an existing entry; false if there is none.
#[inline(always)]
fn add(key: &ProcessKey, duration_ns: u64) -> bool {
    let Some(stalls) = PROCESS_STALLS.get_ptr_mut(key) else {
        return false;
    };
    // SAFETY: a live per-CPU map value of this type. Without preemption this CPU has one writer at a
    // time; a program that is preempted here may overwrite what another one adds meanwhile.
    unsafe { (*stalls).record(duration_ns) };
    true
}
