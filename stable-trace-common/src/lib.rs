//! What crosses from stable-trace's eBPF programs to its agent: records, histograms and counters.
//!
//! Everything here is plain data with a fixed C layout and no padding, compiled once for the BPF
//! target and once for the host. All numbers are in the host's byte order.
#![no_std]

pub mod backing;
pub mod counter;
pub mod device;
pub mod histogram;
pub mod integrity;
pub mod offsets;
pub mod record;
pub mod stack;
pub mod unstable;
pub mod waiter;

/// Lets aya copy these types to and from maps as they are.
#[cfg(feature = "user")]
macro_rules! pod {
    ($($kind:ty),* $(,)?) => {
        $(
            // SAFETY: `repr(C)` without padding (asserted beside each type), integers and arrays of
            // integers only: every bit pattern is a value.
            unsafe impl aya::Pod for $kind {}
        )*
    };
}

#[cfg(feature = "user")]
pod!(
    backing::Backing,
    device::Wish,
    histogram::Histogram,
    histogram::HistogramKey,
    integrity::Failed,
    integrity::IntegrityKey,
    integrity::PageRun,
    integrity::Reason,
    integrity::Submitter,
    offsets::Offsets,
    stack::Stack,
    unstable::UnstableKey,
    waiter::Waiter,
);
