//! One failed check, as the probes pass it on.

use stable_trace_common::integrity::IntegrityKey;

use super::bio::BioPosition;

/// One failure.
#[repr(C)]
pub(super) struct Failure {
    /// Key of its count.
    pub(super) key: IntegrityKey,
    /// Where its pages begin.
    pub(super) position: BioPosition,
    /// First sector, in units of 512 bytes on the whole disk.
    pub(super) sector: u64,
    /// Length in bytes.
    pub(super) bytes: u64,
    /// When the failed operation began: `CLOCK_MONOTONIC` in ns; 0 if not known, `u64::MAX` if no lower
    /// device can have failed it.
    pub(super) since_ns: u64,
    /// Bytes of the bio before the failed part that the host has verified; [`NOT_VERIFIED`] of a failure that the
    /// disk reported.
    pub(super) verified: u64,
    /// 1 if the device checks nothing itself: it reports what one below it has found.
    pub(super) passed_on: u32,
}

/// [`Failure::verified`]: the host has verified nothing.
pub(super) const NOT_VERIFIED: u64 = u64::MAX;
