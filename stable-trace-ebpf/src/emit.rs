//! What happens to a finished stall: counted always, streamed if it is long enough.

use aya_ebpf::bindings::{BPF_NOEXIST, BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use stable_trace_common::{
    counter::Counter, histogram::HistogramKey, record::StallRecord, waiter::Waiter,
};

use crate::{
    maps::{EMPTY_HISTOGRAM, EVENTS, HISTOGRAMS, MIN_LATENCY_NS, WAKE_AT_BYTES, count},
    process,
};

/// Counts and streams one finished stall.
///
/// A function of its own in the object too: its frame would not fit beside its callers' otherwise.
#[inline(never)]
pub fn stall(waiter: &Waiter) {
    let duration_ns = waiter.end_ns.saturating_sub(waiter.begin_ns);
    tally(&HistogramKey { backing: waiter.folio.backing, stack: waiter.stack }, duration_ns);
    process::tally(waiter, duration_ns);
    if duration_ns < MIN_LATENCY_NS.load() {
        count(Counter::BelowThreshold);
        return;
    }
    let Some(mut entry) = EVENTS.reserve::<StallRecord>(0) else {
        count(Counter::Lost);
        return;
    };
    entry.write(waiter.to_record());
    entry.submit(wake_up());
    count(Counter::Streamed);
}

/// Flags of a submission. A wake-up for each record would cost more than the record: the agent is
/// woken when much waits, and otherwise looks by itself.
#[inline(always)]
pub fn wake_up() -> u64 {
    u64::from(if EVENTS.query(u64::from(BPF_RB_AVAIL_DATA)) >= WAKE_AT_BYTES.load() {
        BPF_RB_FORCE_WAKEUP
    } else {
        BPF_RB_NO_WAKEUP
    })
}

/// Counts a stall in its histogram, or in the common one if there is no room for its own.
#[inline(always)]
fn tally(key: &HistogramKey, duration_ns: u64) {
    if record(key, duration_ns) {
        return;
    }
    if let Some(empty) = EMPTY_HISTOGRAM.get(0) {
        // Fails if the map is full, or if another CPU was first: the next look tells which.
        let _ = HISTOGRAMS.insert(key, empty, u64::from(BPF_NOEXIST));
    }
    if record(key, duration_ns) {
        return;
    }
    count(Counter::HistogramsFull);
    if !record(&HistogramKey::COMMON, duration_ns) {
        count(Counter::Uncounted);
    }
}

/// Counts in an existing histogram; false if there is none.
#[inline(always)]
fn record(key: &HistogramKey, duration_ns: u64) -> bool {
    let Some(histogram) = HISTOGRAMS.get_ptr_mut(key) else {
        return false;
    };
    // SAFETY: a live per-CPU map value of this type; programs run with preemption off, so it has
    // one writer.
    unsafe { (*histogram).record(duration_ns) };
    true
}
