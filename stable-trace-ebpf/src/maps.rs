//! Maps, and what the agent fixes before the programs load.

use core::arch::asm;

use aya_ebpf::{
    Global,
    macros::map,
    maps::{Array, CgroupArray, HashMap, LruHashMap, PerCpuArray, PerCpuHashMap, RingBuf},
};
use stable_trace_common::{
    backing::Backing,
    counter::{COUNTERS as COUNTER_COUNT, Counter},
    device::Wish,
    histogram::{Histogram, HistogramKey},
    integrity::{Failed, IntegrityKey, Reason, Submitter},
    stack::Stack,
    unstable::UnstableKey,
    waiter::Waiter,
};

use crate::integrity::{LANES, Walk};

/// The stream to the agent. The agent chooses its size.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(2 << 20, 0);

/// Every stall there was, by device and stack, whatever the stream drops.
#[map]
pub static HISTOGRAMS: PerCpuHashMap<HistogramKey, Histogram> =
    PerCpuHashMap::with_max_entries(1024, 0);

/// One histogram that nobody writes to: what a new one starts from, too large for a BPF stack.
#[map]
pub static EMPTY_HISTOGRAM: Array<Histogram> = Array::with_max_entries(1, 0);

/// What else is counted: see [`Counter`].
#[map]
static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTER_COUNT, 0);

/// Tasks that wait, by the address of their `task_struct`: a key that `sched_switch` hands over
/// without a read, and that is unique while the task lives. An entry lasts until its task next
/// stops running outside the wait, which a dying task does too.
#[map]
pub static WAITERS: HashMap<u64, Waiter> = HashMap::with_max_entries(16_384, 0);

/// Every distinct kernel stack of a wait, by [`Stack::id`].
#[map]
pub static STACKS: HashMap<u64, Stack> = HashMap::with_max_entries(4_096, 0);

/// Where stacks are walked: one slot a program, because a BPF stack holds 512 bytes only.
#[map]
pub static SCRATCH: PerCpuArray<Stack> = PerCpuArray::with_max_entries(2, 0);

/// What the agent said of file systems and devices. With `--device`, one that it has not seen yet
/// is followed until it says otherwise: a file system may be mounted after the start.
#[map]
pub static WISHES: HashMap<Backing, Wish> = HashMap::with_max_entries(1024, 0);

/// Unstable writes, by device, context and whether they were forbidden.
#[map]
pub static UNSTABLE_WRITES: PerCpuHashMap<UnstableKey, u64> =
    PerCpuHashMap::with_max_entries(1024, 0);

/// The folio that a task has written to and that is counted, by `task_struct`: the last of each task
/// that made an unstable write lately, oldest out first.
#[map]
pub static WRITTEN: LruHashMap<u64, u64> = LruHashMap::with_max_entries(4_096, 0);

/// The folio of a write fault that is being handled, by `task_struct`: where a kretprobe must do.
#[map]
pub static FAULTS: HashMap<u64, u64> = HashMap::with_max_entries(16_384, 0);

/// Devices, as `dev_t`, below which something checks integrity. The agent fills it.
#[map]
pub static CHECKED_DEVICES: HashMap<u32, u32> = HashMap::with_max_entries(1024, 0);

/// Integrity failures, by disk, operation, check and source. One value for all CPUs, added to
/// atomically.
#[map]
pub static INTEGRITY_ERRORS: HashMap<IntegrityKey, u64> = HashMap::with_max_entries(1024, 0);

/// The pages that failed last, by the address of their `struct page`, oldest out first: to know a
/// failure again that a device above reports.
#[map]
pub static FAILED: LruHashMap<u64, Failed> = LruHashMap::with_max_entries(16_384, 0);

/// Where the pages of a failure are walked, one slot a kind of program.
#[map]
pub static WALKS: PerCpuArray<Walk> = PerCpuArray::with_max_entries(LANES, 0);

/// What a driver said last of a failed check on this CPU.
#[map]
pub static REASONS: PerCpuArray<Reason> = PerCpuArray::with_max_entries(1, 0);

/// What a task has last written to the log of a failed check, by `task_struct`, oldest out first.
#[map]
pub static LOGGED: LruHashMap<u64, Reason> = LruHashMap::with_max_entries(1024, 0);

/// The bio and the iterator of a verification, by `task_struct`: where a kretprobe must do.
#[map]
pub static VERIFICATIONS: LruHashMap<u64, [u64; 2]> = LruHashMap::with_max_entries(1024, 0);

/// Who submitted a bio, by its address: the last ones, oldest out first.
#[map]
pub static SUBMITTERS: LruHashMap<u64, Submitter> = LruHashMap::with_max_entries(16_384, 0);

/// The cgroup of `--cgroup`, in slot 0.
#[map]
pub static CGROUPS: CgroupArray = CgroupArray::with_max_entries(1, 0);

/// Stream only stalls at least this long, in ns.
#[unsafe(no_mangle)]
pub static MIN_LATENCY_NS: Global<u64> = Global::new(0);

/// Only waiters of this process (`tgid`); 0 for all.
#[unsafe(no_mangle)]
pub static ONLY_PID: Global<u32> = Global::new(0);

/// Only waiters whose thread has this name, NUL-padded; all zero for all. As two words, because
/// comparing words takes fewer instructions than bytes.
#[unsafe(no_mangle)]
pub static ONLY_COMM: Global<[u64; 2]> = Global::new([0; 2]);

/// 1: only waiters in the cgroup of [`CGROUPS`], or below it.
#[unsafe(no_mangle)]
pub static ONLY_CGROUP: Global<u32> = Global::new(0);

/// 1: pass over waits for devices that [`WISHES`] says nobody asked for.
#[unsafe(no_mangle)]
pub static ONLY_DEVICES: Global<u32> = Global::new(0);

/// Wake the agent when this many bytes wait in the ring; it looks by itself every so often too.
#[unsafe(no_mangle)]
pub static WAKE_AT_BYTES: Global<u64> = Global::new(0);

/// 1: the ends of waits are seen as returns of the wait function, not as switches of tasks.
#[unsafe(no_mangle)]
pub static RETURNS_PROBED: Global<u32> = Global::new(0);

/// 1: stream unstable writes that harm nobody, too.
#[unsafe(no_mangle)]
pub static STREAM_HARMLESS: Global<u32> = Global::new(0);

/// Where the name of the backing device, the inode and the page index stand in the record of the
/// wait tracepoint, in bytes: from `events/writeback/…/format` of the running kernel.
#[unsafe(no_mangle)]
pub static WAIT_NAME_AT: Global<u32> = Global::new(0);
/// See [`WAIT_NAME_AT`].
#[unsafe(no_mangle)]
pub static WAIT_INO_AT: Global<u32> = Global::new(0);
/// See [`WAIT_NAME_AT`].
#[unsafe(no_mangle)]
pub static WAIT_INDEX_AT: Global<u32> = Global::new(0);

/// The machine code of the functions that a wait sleeps in, as `[start, end)` pairs, from
/// `/proc/kallsyms`: `folio_wait_writeback` and its killable variant, or `wait_on_page_writeback`
/// up to 5.15. Unused pairs are empty.
#[unsafe(no_mangle)]
pub static WAIT_TEXT: Global<[u64; 4]> = Global::new([0; 4]);

/// Counts one of what [`Counter`] names.
#[inline(always)]
pub fn count(counter: Counter) {
    if let Some(value) = COUNTERS.get_ptr_mut(counter as u32) {
        // SAFETY: the map owns 8 aligned bytes here, and a per-CPU value has one writer at a time
        // but for a program that interrupts another one; these run with preemption off and never
        // in interrupts.
        unsafe { *value += 1 };
    }
}

/// Counts one of what [`Counter`] names, in whatever the program has interrupted: completions do.
/// A counter is counted either always by this or never.
#[inline(always)]
pub fn count_anywhere(counter: Counter) {
    if let Some(value) = COUNTERS.get_ptr_mut(counter as u32) {
        // SAFETY: a live, aligned map value that everybody adds to atomically.
        unsafe { add_one(value) };
    }
}

/// Adds 1 atomically: the instruction `BPF_XADD` (`Documentation/bpf/standardization/instruction-set.rst`).
/// Rust has no atomic addition for a target without compare-and-swap, which BPF of 5.10 is.
///
/// # Safety
/// `value` is a live map value, aligned to 8 bytes.
#[inline(always)]
pub unsafe fn add_one(value: *mut u64) {
    // SAFETY: one aligned word that the caller answers for.
    unsafe { asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) value, in(reg) 1_u64) };
}
