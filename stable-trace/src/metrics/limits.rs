//! The most series that a scrape can have: 2,500 in all.
//!
//! Each family has a limit of label sets; further ones are counted as `other`. The limits add up to
//! at most the total, so that no family can take series from another.

use std::time::Duration;

use stable_trace_common::histogram::BUCKETS;

/// Series that have not increased for this time give their place to new ones.
pub(super) const IDLE: Duration = Duration::from_hours(1);

/// Series in all; each bucket of a histogram counts as one.
pub(super) const SERIES: usize = 2_500;

/// Series of one label set of a histogram: its buckets, `_sum` and `_count`.
pub(super) const HISTOGRAM: usize = BUCKETS + 2;

/// Label sets of stalls. Four more, one a context, take the overflow. At most 64 together.
pub(super) const STALLS: usize = 49;

/// The most label sets of stalls that are declared at 0 before the first stall.
pub(super) const STALLS_DECLARED: usize = 24;

/// Label sets of waiting tasks. Four more, one a context, take the overflow.
pub(super) const WAITING: usize = 40;

/// Pairs of device and file system of the oldest waits. One more takes the overflow.
pub(super) const OLDEST: usize = 24;

/// Process names with series of their own: at most one series a context.
pub(super) const PROCESSES: usize = 50;

/// Label sets of unstable writes. Six more take the overflow.
pub(super) const UNSTABLE: usize = 32;

/// The most label sets of unstable writes that are declared at 0 before the first one.
pub(super) const UNSTABLE_DECLARED: usize = 16;

/// Label sets of integrity errors. At most 40 more, by operation, check and source, take the
/// overflow.
pub(super) const INTEGRITY: usize = 56;

/// Label sets of verdicts. Five more, one a cause, take the overflow.
pub(super) const VERDICTS: usize = 32;

/// Label sets of proofs. Seven more, one a kind, take the overflow.
pub(super) const PROOFS: usize = 28;

/// Devices whose flags are shown; devices with PI or stable writes come first.
pub(super) const DEVICES: usize = 48;

/// Devices whose protection information is shown.
pub(super) const PROTECTED: usize = 16;

pub(super) const PROBES: usize = 64;

/// Functions whose missed runs are shown. One more takes the overflow.
pub(super) const MISSED: usize = 31;

/// eBPF programs, with two series each.
pub(super) const PROGRAMS: usize = 40;

/// Kernel maps, with two series each.
pub(super) const MAPS: usize = 20;

/// Kernel maps with their memory: all of the programs, and the variables.
pub(super) const MAP_BYTES: usize = 44;

/// Pairs of profile and mode of the workload, with two series each. There are no more.
pub(super) const WORKLOADS: usize = 14;

/// Label sets of workload errors. One more a pair of profile and mode takes the overflow.
pub(super) const WORKLOAD_ERRORS: usize = 25;

/// Outputs of a run. There are no more.
pub(super) const OUTPUTS: usize = 3;

/// Events received and lost, the build, and the process metrics.
pub(super) const SINGLE: usize = 16;

const _: () = assert!(
    (STALLS + 4) * HISTOGRAM
        + (WAITING + 4)
        + (OLDEST + 1)
        + (PROCESSES + 1) * 4
        + (UNSTABLE + 6)
        + (INTEGRITY + 40)
        + (VERDICTS + 5)
        + (PROOFS + 7)
        + DEVICES
        + PROTECTED
        + PROBES
        + (MISSED + 1)
        + PROGRAMS * 2
        + MAPS * 2
        + MAP_BYTES
        + WORKLOADS * 2
        + (WORKLOAD_ERRORS + WORKLOADS)
        + OUTPUTS
        + SINGLE
        <= SERIES
);
const _: () = assert!(STALLS + 4 <= 64);
