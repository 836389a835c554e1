//! Stalled time by thread name: what the stream would lose, the map keeps.

use aya_ebpf::{bindings::BPF_NOEXIST, macros::map, maps::PerCpuHashMap};
use stable_trace_common::{
    process::{ProcessKey, ProcessStalls},
    waiter::Waiter,
};

/// Stalled time by thread name and stack. What has no room goes to [`ProcessKey::COMMON`], which the
/// agent makes before anything attaches, and is counted there.
#[map]
static PROCESS_STALLS: PerCpuHashMap<ProcessKey, ProcessStalls> =
    PerCpuHashMap::with_max_entries(4_096, 0);

/// Adds a finished stall to its thread's name.
///
/// A function of its own in the object too: its frame would not fit beside its caller's otherwise.
#[inline(never)]
pub fn tally(waiter: &Waiter, duration_ns: u64) {
    let key = ProcessKey { comm: waiter.comm, stack: waiter.stack };
    if add(&key, duration_ns) {
        return;
    }
    // Fails if the map is full, or if another CPU was first: the next look tells which.
    let _ = PROCESS_STALLS.insert(key, ProcessStalls::EMPTY, u64::from(BPF_NOEXIST));
    if !add(&key, duration_ns) {
        add(&ProcessKey::COMMON, duration_ns);
    }
}

/// Adds to an existing sum; false if there is none.
#[inline(always)]
fn add(key: &ProcessKey, duration_ns: u64) -> bool {
    let Some(stalls) = PROCESS_STALLS.get_ptr_mut(key) else {
        return false;
    };
    // SAFETY: a live per-CPU map value of this type; programs run with preemption off, so it has
    // one writer.
    unsafe { (*stalls).record(duration_ns) };
    true
}
