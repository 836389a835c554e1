//! Decodes the bytes of the ring into records. Any input gives a record or a [`DecodeError`].

use stable_trace_common::record::{
    INTEGRITY, IntegrityRecord, STALL, StallRecord, UNSTABLE, UnstableRecord,
};
use zerocopy::FromBytes;

/// One record of the ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    /// A finished stall.
    Stall(StallRecord),
    /// A page given to a writer while under writeback.
    Unstable(UnstableRecord),
    /// An integrity failure.
    Integrity(Box<IntegrityRecord>),
}

/// Why bytes are no record. The ring keeps record boundaries, so the next record is not affected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    /// The record ends before its kind and size.
    #[error("a record of {have} bytes is too short for its kind and size")]
    Short {
        /// The length in bytes.
        have: usize,
    },
    /// The length, the stated size and the size of the kind differ.
    #[error(
        "a record of kind {kind} states {stated} bytes, has {have}, and should have {expected}"
    )]
    Size {
        /// The kind of the record.
        kind: u32,
        /// The size that the record states.
        stated: u32,
        /// The length in bytes.
        have: usize,
        /// The size of records of this kind.
        expected: u32,
    },
    /// The programs write no such kind.
    #[error("a record is of the unknown kind {kind}")]
    Kind {
        /// The kind of the record.
        kind: u32,
    },
}

/// Decodes one record of the ring.
pub(crate) fn decode(record: &[u8]) -> Result<Record, DecodeError> {
    let ([kind, stated], _) = <[u32; 2]>::read_from_prefix(record)
        .map_err(|_| DecodeError::Short { have: record.len() })?;
    match kind {
        STALL => read(record, kind, stated, StallRecord::SIZE).map(Record::Stall),
        UNSTABLE => read(record, kind, stated, UnstableRecord::SIZE).map(Record::Unstable),
        INTEGRITY => {
            read(record, kind, stated, IntegrityRecord::SIZE).map(Box::new).map(Record::Integrity)
        }
        kind => Err(DecodeError::Kind { kind }),
    }
}

fn read<T: FromBytes>(
    record: &[u8],
    kind: u32,
    stated: u32,
    expected: u32,
) -> Result<T, DecodeError> {
    let wrong_size = || DecodeError::Size { kind, stated, have: record.len(), expected };
    if stated != expected {
        return Err(wrong_size());
    }
    T::read_from_bytes(record).map_err(|_| wrong_size())
}

/// The text of a NUL-padded name. Bytes that are not UTF-8 become U+FFFD.
pub(crate) fn name(padded: &[u8]) -> String {
    let end = padded.iter().position(|&byte| byte == 0).unwrap_or(padded.len());
    String::from_utf8_lossy(&padded[..end]).into_owned()
}

#[cfg(test)]
mod tests;
