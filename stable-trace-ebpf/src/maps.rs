//! The maps and settings that several groups of programs share: the ring, the counters, and the
//! devices with integrity checks.

use core::arch::asm;

use aya_ebpf::{
    Global,
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    macros::map,
    maps::{HashMap, PerCpuArray, RingBuf},
};
use stable_trace_common::{
    counter::{COUNTERS as COUNTER_COUNT, Counter},
    integrity::stacked_on,
};

/// The stream of records to the agent, which sets the size.
#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(2 << 20, 0);

/// Wake the agent when the ring holds at least this many bytes. It also reads the ring periodically.
#[unsafe(no_mangle)]
static WAKE_AT_BYTES: Global<u64> = Global::new(0);

/// The counters, by the index of [`Counter`].
#[map]
static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTER_COUNT, 0);

/// Devices, as `dev_t`, that check what they are given or stand above one that does: `PROTECTED`, `CHECKSUMMED` and
/// `OWN_CHECKSUMS`. The agent fills it.
#[map]
static CHECKED_DEVICES: HashMap<u32, u32> = HashMap::with_max_entries(1024, 0);

/// Which of them is made of which, by [`stacked_on`]. The agent fills it.
#[map]
static STACKED_ON: HashMap<u64, u32> = HashMap::with_max_entries(8192, 0);

/// Flags for submitting a record to [`EVENTS`]. A wake-up for each record would cost more than the
/// record itself.
#[inline(always)]
pub(crate) fn wake_up() -> u64 {
    u64::from(if EVENTS.query(u64::from(BPF_RB_AVAIL_DATA)) >= WAKE_AT_BYTES.load() {
        BPF_RB_FORCE_WAKEUP
    } else {
        BPF_RB_NO_WAKEUP
    })
}

/// What a device, or one below it, checks; 0 if the agent knows of nothing.
#[inline(always)]
pub(crate) fn checked_by(dev: u32) -> u32 {
    // SAFETY: a word that the agent replaces as a whole.
    unsafe { CHECKED_DEVICES.get(dev) }.copied().unwrap_or(0)
}

/// Whether a device is made of another one, as far as the agent knows both.
#[inline(always)]
pub(crate) fn may_be_stacked_on(upper: u32, lower: u32) -> bool {
    // SAFETY: the value is not read.
    let stacked = unsafe { STACKED_ON.get(stacked_on(upper, lower)) }.is_some();
    // A hidden path of multipath NVMe has no entry, nor has a device that was set up a moment ago.
    stacked || checked_by(upper) == 0 || checked_by(lower) == 0
}

/// Whether a device, or one below it, checks protection information or checksums of its own.
#[inline(always)]
pub(crate) fn checks_data(dev: u32) -> bool {
    CHECKED_DEVICES.get_ptr(dev).is_some()
}

/// Adds 1 to a counter.
#[inline(always)]
pub(crate) fn count(counter: Counter) {
    add_to_counter(counter, 1);
}

/// As [`count`], with another number.
#[inline(always)]
pub(crate) fn add_to_counter(counter: Counter, number: u64) {
    if let Some(value) = COUNTERS.get_ptr_mut(counter as u32) {
        // SAFETY: a live, aligned map value, to which every writer adds atomically.
        unsafe { add(value, number) };
    }
}

/// Adds 1 atomically, because a program may interrupt or preempt another one that adds to the same value of this CPU:
/// the instruction `BPF_XADD` (`Documentation/bpf/standardization/instruction-set.rst`).
/// Rust has no atomic addition for a target without compare-and-swap, such as BPF of 5.10.
///
/// # Safety
/// `value` is a live map value, aligned to 8 bytes.
#[inline(always)]
pub(crate) unsafe fn add_one(value: *mut u64) {
    // SAFETY: as for this function.
    unsafe { add(value, 1) };
}

/// Subtracts 1 atomically.
///
/// # Safety
/// As for [`add_one`].
#[inline(always)]
pub(crate) unsafe fn subtract_one(value: *mut u64) {
    // SAFETY: as for this function.
    unsafe { add(value, u64::MAX) };
}

/// Adds a number atomically, and wraps.
///
/// # Safety
/// As for [`add_one`].
#[inline(always)]
pub(crate) unsafe fn add(value: *mut u64, number: u64) {
    // SAFETY: the caller guarantees a live, aligned word.
    unsafe { asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) value, in(reg) number) };
}
