//! Integrity failures: what is counted, which pages are concerned, and how drivers report a check.

use crate::folio::Folio;

/// [`IntegrityKey::op`]: data from the device.
pub const READ: u32 = 0;
/// [`IntegrityKey::op`]: data to the device.
pub const WRITE: u32 = 1;

/// [`IntegrityKey::check`]: not reported.
pub const UNKNOWN_CHECK: u32 = 0;
/// [`IntegrityKey::check`]: the checksum over the data.
pub const GUARD: u32 = 1;
/// [`IntegrityKey::check`]: the application tag.
pub const APPLICATION_TAG: u32 = 2;
/// [`IntegrityKey::check`]: the reference tag.
pub const REFERENCE_TAG: u32 = 3;

/// [`IntegrityKey::source`]: the block layer alone.
pub const BLOCK: u32 = 0;
/// [`IntegrityKey::source`]: SCSI sense data.
pub const SCSI: u32 = 1;
/// [`IntegrityKey::source`]: an NVMe status.
pub const NVME: u32 = 2;
/// [`IntegrityKey::source`]: the host, which verified data that it had read.
pub const VERIFY: u32 = 3;

/// [`IntegrityKey::source`]: a file system, which verified data that it had read.
pub const FILE_SYSTEM: u32 = 4;

/// Key of the map `INTEGRITY_ERRORS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IntegrityKey {
    /// The disk, or the partition of a [`FILE_SYSTEM`], as the kernel's own `dev_t`: 12 bits of major, 20 bits of
    /// minor.
    pub dev: u32,
    /// [`READ`] or [`WRITE`].
    pub op: u32,
    /// [`GUARD`], [`APPLICATION_TAG`], [`REFERENCE_TAG`] or [`UNKNOWN_CHECK`].
    pub check: u32,
    /// [`SCSI`], [`NVME`], [`VERIFY`], [`FILE_SYSTEM`] or [`BLOCK`].
    pub source: u32,
}

/// [`PageRun::kind`]: pages of the page cache that the request writes back or reads.
pub const FILE: u32 = 0;
/// [`PageRun::kind`]: anonymous memory: a buffer of direct I/O.
pub const ANONYMOUS: u32 = 1;
/// [`PageRun::kind`]: none of the others, such as memory of the kernel.
pub const UNOWNED: u32 = 2;
/// [`PageRun::kind`]: pages of a file or of shared memory that a process has mapped and uses as a buffer of
/// direct I/O.
pub const SHARED: u32 = 3;
/// [`PageRun::kind`]: pages that are swapped out or in.
pub const SWAP: u32 = 4;

/// Consecutive pages of one owner.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRun {
    /// [`FILE`], [`ANONYMOUS`], [`UNOWNED`], [`SHARED`] or [`SWAP`].
    pub kind: u32,
    /// 1 if their mapping requires stable pages.
    pub stable: u32,
    /// Number of pages.
    pub count: u64,
    /// The first page, if `kind` is [`FILE`] or [`SHARED`].
    pub first: Folio,
}

impl PageRun {
    /// No page.
    pub const EMPTY: Self = Self { kind: UNOWNED, stable: 0, count: 0, first: Folio::UNKNOWN };
}

/// Bit of a device that checks protection information, or stands above one.
pub const PROTECTED: u32 = 1;

/// Bit of a device that stands on none of those, but on checksums that the kernel makes: dm-integrity, btrfs.
pub const CHECKSUMMED: u32 = 2;

/// Bit of a device that makes and checks such checksums itself: dm-integrity.
pub const OWN_CHECKSUMS: u32 = 4;

/// Key of the map `STACKED_ON`: a device, and one that it is made of, as `dev_t`.
#[must_use]
#[inline]
pub const fn stacked_on(upper: u32, lower: u32) -> u64 {
    (upper as u64) << 32 | lower as u64
}

/// Runs of pages that a record has room for. Most failures have one run.
pub const RUNS: usize = 8;

/// Bytes of sense data that [`sense_check`] reads: in both formats they contain the additional sense.
pub const SENSE_BYTES: usize = 16;

/// The check that failed, by sense data of which `length` bytes are valid; `None` for sense data about
/// anything else. Additional sense 10h is "logical block guard check failed" and its siblings
/// (SPC-4, annex D) with any sense key: aborted command from a disk, illegal request from a host
/// adapter. Formats: SPC-4, 4.5.
#[must_use]
#[inline]
pub const fn sense_check(sense: &[u8; SENSE_BYTES], length: u32) -> Option<u32> {
    const PROTECTION: u8 = 0x10;
    let (code, qualifier) = match sense[0] & 0x7f {
        // Fixed format, current and deferred.
        0x70 | 0x71 if length >= 14 => (sense[12], sense[13]),
        // Descriptor format.
        0x72 | 0x73 if length >= 4 => (sense[2], sense[3]),
        _ => return None,
    };
    if code != PROTECTION {
        return None;
    }
    Some(match qualifier {
        1 => GUARD,
        2 => APPLICATION_TAG,
        3 => REFERENCE_TAG,
        _ => UNKNOWN_CHECK,
    })
}

/// The check that failed, by an NVMe status as Linux stores it (without the phase bit); `None` for a
/// status about anything else. `NVME_SC_GUARD_CHECK` and its siblings, include/linux/nvme.h, 5.10 to
/// 7.3; `nvme_error_status` maps exactly these and "invalid PI" to `BLK_STS_PROTECTION`.
#[must_use]
#[inline]
pub const fn nvme_check(status: u32) -> Option<u32> {
    // Status code and its type. The bits above are "more", "do not retry" and the retry delay.
    match status & 0x7ff {
        0x181 => Some(UNKNOWN_CHECK),
        0x282 => Some(GUARD),
        0x283 => Some(APPLICATION_TAG),
        0x284 => Some(REFERENCE_TAG),
        _ => None,
    }
}

const _: () = assert!(size_of::<PageRun>() == 16 + size_of::<Folio>());

#[cfg(test)]
mod tests {
    use super::*;

    fn sense(start: &[(usize, u8)]) -> [u8; SENSE_BYTES] {
        let mut sense = [0; SENSE_BYTES];
        for (at, byte) in start {
            sense[*at] = *byte;
        }
        sense
    }

    #[test]
    fn both_formats_of_sense_data_name_the_check() {
        for (qualifier, check) in
            [(1, GUARD), (2, APPLICATION_TAG), (3, REFERENCE_TAG), (4, UNKNOWN_CHECK)]
        {
            let fixed = sense(&[(0, 0x70), (2, 0x0b), (7, 10), (12, 0x10), (13, qualifier)]);
            assert_eq!(sense_check(&fixed, 18), Some(check));
            // With the bit "information valid".
            let valid = sense(&[(0, 0xf0), (2, 0x05), (12, 0x10), (13, qualifier)]);
            assert_eq!(sense_check(&valid, 18), Some(check));
            let descriptor = sense(&[(0, 0x72), (1, 0x0b), (2, 0x10), (3, qualifier)]);
            assert_eq!(sense_check(&descriptor, 8), Some(check));
        }
    }

    #[test]
    fn sense_data_about_something_else_or_too_short_names_no_check() {
        // Unrecovered read error.
        assert_eq!(sense_check(&sense(&[(0, 0x70), (2, 3), (12, 0x11)]), 18), None);
        // The bytes of the additional sense were not transferred.
        assert_eq!(sense_check(&sense(&[(0, 0x70), (12, 0x10), (13, 1)]), 8), None);
        assert_eq!(sense_check(&sense(&[(0, 0x72), (2, 0x10), (3, 1)]), 3), None);
        assert_eq!(sense_check(&[0; SENSE_BYTES], 18), None);
    }

    #[test]
    fn an_nvme_status_names_the_check_with_any_flags() {
        assert_eq!(nvme_check(0x282), Some(GUARD));
        assert_eq!(nvme_check(0x4282), Some(GUARD), "with \"do not retry\"");
        assert_eq!(nvme_check(0x283), Some(APPLICATION_TAG));
        assert_eq!(nvme_check(0x284), Some(REFERENCE_TAG));
        assert_eq!(nvme_check(0x281), None, "unrecovered read error");
        assert_eq!(nvme_check(0), None);
    }
}
