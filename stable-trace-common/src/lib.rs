//! What stable-trace's eBPF programs and its agent share: ring records, map keys and values, counters,
//! and the table of kernel offsets.
//!
//! Every type that crosses is plain data with a fixed C layout and no padding, compiled once for the
//! BPF target and once for the host. All numbers are in the host's byte order.
//!
//! The modules depend on each other in one direction. From the bottom up:
//!
//! 1. [`backing`], [`counter`], [`device_filter`], [`evidence`], [`follow`], [`offsets`], [`stack`], [`task`]
//! 2. [`folio`], [`histogram`], [`layout`], [`path`], [`process`], [`unstable`]
//! 3. [`integrity`], [`waiter`]
//! 4. [`record`]
#![no_std]

pub mod backing;
pub mod counter;
pub mod device_filter;
pub mod evidence;
pub mod folio;
pub mod follow;
pub mod histogram;
pub mod integrity;
pub mod layout;
pub mod offsets;
pub mod path;
pub mod process;
pub mod record;
pub mod stack;
pub mod task;
pub mod unstable;
pub mod waiter;

/// Lets aya copy these types to and from maps as they are.
#[cfg(feature = "user")]
macro_rules! pod {
    ($($kind:ty),* $(,)?) => {
        $(
            // SAFETY: `repr(C)` or `repr(transparent)` without padding (asserted beside each type),
            // made of integers and arrays of integers only: every bit pattern is a value.
            unsafe impl aya::Pod for $kind {}
        )*
    };
}

#[cfg(feature = "user")]
pod!(
    backing::Backing,
    folio::BtrfsOffsets,
    device_filter::FilterDecision,
    follow::Seed,
    histogram::Histogram,
    histogram::HistogramKey,
    integrity::IntegrityKey,
    layout::LayoutTable,
    offsets::Offsets,
    process::ProcessKey,
    process::ProcessStalls,
    stack::Stack,
    unstable::UnstableKey,
    waiter::Waiter,
);
