//! How many series there can be: 2,500 in all, whatever runs.
//!
//! Each family has room for so many label sets of its own; what comes later goes to `other`. The
//! numbers add up to less than the whole, so that no family can take another one's room.

use stable_trace_common::histogram::BUCKETS;

/// Series in all, a histogram's buckets counted each.
pub const SERIES: usize = 2_500;

/// Series of one label set of a histogram: its buckets, `_sum` and `_count`.
pub const HISTOGRAM: usize = BUCKETS + 2;

/// Label sets of stalls; four more, one a context, take the rest. The contract allows 64 together.
pub const STALLS: usize = 52;

/// Of these, so many start at 0 before the first stall.
pub const STALLS_ANNOUNCED: usize = 24;

/// Names of threads with series of their own; each has one a context at most.
pub const PROCESSES: usize = 50;

/// Label sets of unstable writes; six more take the rest.
pub const UNSTABLE: usize = 32;

/// Of these, so many start at 0 before the first of them.
pub const UNSTABLE_ANNOUNCED: usize = 16;

/// Label sets of integrity errors; `other` has 32 more at most: by operation, check and source.
pub const INTEGRITY: usize = 64;

/// Label sets of verdicts; four more, one a cause, take the rest.
pub const VERDICTS: usize = 32;

/// Devices whose flags are shown; those that check or ask for something come first.
pub const DEVICES: usize = 48;

/// Devices whose protection information is shown.
pub const PROTECTED: usize = 16;

/// Probes.
pub const PROBES: usize = 64;

/// Functions whose missed runs are shown; one more takes the rest.
pub const MISSED: usize = 31;

/// Programs, with two series each.
pub const PROGRAMS: usize = 40;

/// Kernel maps, with two series each.
pub const MAPS: usize = 20;

/// Profile and mode of workloads, with two series each: there are no more.
pub const WORKLOADS: usize = 14;

/// Label sets of a workload's errors; one more a profile and mode takes the rest.
pub const WORKLOAD_ERRORS: usize = 28;

/// Events received and lost, the build, and the process's own.
pub const SINGLE: usize = 16;

const _: () = assert!(
    (STALLS + 4) * HISTOGRAM
        + (PROCESSES + 1) * 4
        + (UNSTABLE + 6)
        + (INTEGRITY + 32)
        + (VERDICTS + 4)
        + DEVICES
        + PROTECTED
        + PROBES
        + (MISSED + 1)
        + PROGRAMS * 2
        + MAPS * 2
        + WORKLOADS * 2
        + (WORKLOAD_ERRORS + WORKLOADS)
        + SINGLE
        <= SERIES
);
const _: () = assert!(STALLS + 4 <= 64);
