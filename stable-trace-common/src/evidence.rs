//! Evidence of failed checks: the data and the protection information that were compared.

/// [`EvidenceRecord::kind`]: data.
pub const DATA: u32 = 1;
/// [`EvidenceRecord::kind`]: the same data, read once more.
pub const DATA_AGAIN: u32 = 2;
/// [`EvidenceRecord::kind`]: protection information.
pub const TUPLES: u32 = 3;

/// Bytes of a record's content, at most: those of the smallest page.
pub const CONTENT: usize = 4096;

/// Parts of the data that are copied of a failure, at most. A part is within one page.
pub const MAX_PARTS: u32 = 16;

/// Bios of a request whose protection information is copied, at most.
pub const MAX_BIOS: u32 = 8;

/// Parts that are read twice.
pub const MAX_PARTS_AGAIN: u32 = 4;

/// A part of the evidence of one failure: a record of the ring `EVIDENCE`. All parts are in the ring before the
/// failure's own record is in `EVENTS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EvidenceRecord {
    /// [`DATA`], [`DATA_AGAIN`] or [`TUPLES`].
    pub kind: u32,
    /// Valid bytes of `content`.
    pub length: u32,
    /// [`IntegrityRecord::time_ns`](crate::record::IntegrityRecord::time_ns).
    pub time_ns: u64,
    /// [`IntegrityRecord::sector`](crate::record::IntegrityRecord::sector).
    pub sector: u64,
    /// The disk, as a `dev_t`.
    pub dev: u32,
    /// Of [`TUPLES`]: bytes of the protection information of the whole rest of one bio. A failed request may have
    /// several, in the order of their data.
    pub tuple_bytes: u32,
    /// Of data: its place in the failed part. Of [`TUPLES`]: bytes of data in the rest of the bio.
    pub at: u64,
    /// The content. What is behind `length` is undefined.
    pub content: [u8; CONTENT],
}

impl EvidenceRecord {
    /// Its size in bytes.
    pub const SIZE: usize = size_of::<Self>();
}

const _: () = assert!(EvidenceRecord::SIZE == 40 + CONTENT);
