//! Finished stalls: always counted, and streamed if long enough.

use aya_ebpf::{
    Global,
    bindings::BPF_NOEXIST,
    macros::map,
    maps::{Array, PerCpuHashMap},
};
use stable_trace_common::{
    counter::Counter,
    histogram::{Histogram, HistogramKey, bucket},
    record::StallRecord,
    waiter::Waiter,
};

use crate::{
    maps::{self, EVENTS, add_one, count, wake_up},
    path, process,
    waiters::WAITERS,
};

/// Every stall, by device and stack, complete even if the stream loses records.
#[map]
static HISTOGRAMS: PerCpuHashMap<HistogramKey, Histogram> =
    PerCpuHashMap::with_max_entries(1024, 0);

/// One histogram that is never written to: the initial value of a new one, which is too large for the
/// stack of a BPF program.
#[map]
static EMPTY_HISTOGRAM: Array<Histogram> = Array::with_max_entries(1, 0);

/// Stream only stalls at least this long, in ns.
#[unsafe(no_mangle)]
static MIN_LATENCY_NS: Global<u64> = Global::new(0);

/// Counts and streams the finished stall of a task that has an entry in [`WAITERS`].
///
/// A global function: the verifier follows it once a program, not once for each way that leads to a call. 6.1
/// followed 113,000 instructions of `writeback_wait_begin_typed` where it is inlined or static, and 17,000 where it
/// is global. The price is another look-up: on 5.10 arguments of such a function are numbers, and it returns one
/// (`btf_prepare_func_args`, kernel/bpf/btf.c).
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn finished(task: u64) -> u64 {
    let Some(waiter) = WAITERS.get_ptr(task) else {
        return 0;
    };
    // SAFETY: a live map value. Only probes in its task and its switches change it, and this is one of them.
    let waiter = unsafe { &*waiter };
    let duration_ns = waiter.end_ns.saturating_sub(waiter.begin_ns);
    add_to_histogram(waiter, duration_ns);
    process::add_stall(waiter, duration_ns);
    if duration_ns < MIN_LATENCY_NS.load() {
        count(Counter::BelowThreshold);
        return 0;
    }
    path::send(waiter.inode, &waiter.folio);
    let Some(mut entry) = EVENTS.reserve::<StallRecord>(0) else {
        count(Counter::Lost);
        return 0;
    };
    entry.write(StallRecord::from_waiter(waiter));
    entry.submit(wake_up());
    count(Counter::Streamed);
    0
}

/// Counts a stall in its histogram, or in the overflow histogram if the map is full.
///
/// Not inlined: its frame would not fit beside those of [`finished`], [`path::send`] and the program.
#[inline(never)]
fn add_to_histogram(waiter: &Waiter, duration_ns: u64) {
    let key = &HistogramKey { backing: waiter.folio.backing, stack: waiter.stack };
    if add(key, duration_ns) {
        return;
    }
    if let Some(empty) = EMPTY_HISTOGRAM.get(0) {
        // Fails if the map is full, or if another CPU was first: the next look-up tells which.
        let _ = HISTOGRAMS.insert(key, empty, u64::from(BPF_NOEXIST));
    }
    if add(key, duration_ns) {
        return;
    }
    count(Counter::HistogramsFull);
    if !add(&HistogramKey::OVERFLOW, duration_ns) {
        count(Counter::Uncounted);
    }
}

/// Counts in an existing histogram; false if there is none.
#[inline(always)]
fn add(key: &HistogramKey, duration_ns: u64) -> bool {
    let Some(histogram) = HISTOGRAMS.get_ptr_mut(key) else {
        return false;
    };
    // SAFETY: a live per-CPU map value of this type, whose counts every writer adds to atomically. The maximum of a
    // program that preempts this one between the load and the store may be lost.
    unsafe {
        let buckets = &raw mut (*histogram).buckets;
        // The verifier refuses a program that contains the panic of an index.
        if let Some(stalls) = (*buckets).get_mut(bucket(duration_ns)) {
            add_one(&raw mut *stalls);
        }
        maps::add(&raw mut (*histogram).sum_ns, duration_ns);
        if duration_ns > (*histogram).max_ns {
            (*histogram).max_ns = duration_ns;
        }
    }
    true
}
