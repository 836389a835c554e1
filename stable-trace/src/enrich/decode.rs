//! Decodes the bytes of the ring into records. Any input gives a record or a [`DecodeError`].

use bytes::{Buf, Bytes, TryGetError};
use smol_str::SmolStr;
use stable_trace_common::{
    backing::{Backing, FS_LEN, NAME_LEN},
    folio::Folio,
    integrity::{IntegrityKey, PageRun, RUNS},
    layout::{StackSample, WINDOW_WORDS},
    path::PathRecord,
    record::{
        INTEGRITY, IntegrityRecord, PATH, STACK_SAMPLE, STALL, StallRecord, UNSTABLE,
        UnstableRecord, WAITING,
    },
    stack::FRAMES,
    task::COMM_LEN,
    unstable::UnstableKey,
};

/// One record of the ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    /// A finished stall.
    Stall(StallRecord),
    /// A wait that has not ended, as the stall that it would be.
    Waiting(StallRecord),
    /// A page given to a writer while under writeback.
    Unstable(UnstableRecord),
    /// An integrity failure.
    Integrity(Box<IntegrityRecord>),
    /// The names of a file, for the events after it.
    Path(FileNames),
    /// A stack with its memory.
    Stack(Box<StackSample>),
}

/// The names of a file from the kernel's dentries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileNames {
    /// The file system.
    pub(crate) backing: Backing,
    /// The anonymous device of the file's btrfs subvolume; 0 if there is none.
    pub(crate) subvolume: u32,
    /// Inode of the file.
    pub(crate) ino: u64,
    /// The flags of [`PathRecord::flags`].
    pub(crate) flags: u32,
    /// The names from the file's own to that below the root, each with a NUL.
    pub(crate) names: Bytes,
}

/// Why bytes are no record. The ring keeps record boundaries, so the next record is not affected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    /// The record ends before its last field.
    #[error("a record of {have} bytes is shorter than its kind needs")]
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
pub(crate) fn decode(record: Bytes) -> Result<Record, DecodeError> {
    let have = record.len();
    let mut rest = record;
    let short = |_: TryGetError| DecodeError::Short { have };
    let kind = rest.try_get_u32_ne().map_err(short)?;
    let size = rest.try_get_u32_ne().map_err(short)?;
    let expected = match kind {
        STALL | WAITING => StallRecord::SIZE,
        UNSTABLE => UnstableRecord::SIZE,
        INTEGRITY => IntegrityRecord::SIZE,
        PATH => PathRecord::SIZE,
        STACK_SAMPLE => StackSample::SIZE,
        kind => return Err(DecodeError::Kind { kind }),
    };
    if size != expected || have != expected as usize {
        return Err(DecodeError::Size { kind, stated: size, have, expected });
    }
    match kind {
        STALL => stall(kind, size, rest).map(Record::Stall),
        WAITING => stall(kind, size, rest).map(Record::Waiting),
        UNSTABLE => unstable(kind, size, rest).map(Record::Unstable),
        STACK_SAMPLE => stack_sample(kind, size, rest).map(Box::new).map(Record::Stack),
        PATH => names(rest).map(Record::Path),
        _ => integrity(kind, size, rest).map(Box::new).map(Record::Integrity),
    }
    .map_err(short)
}

/// The fields of a stall after its kind and size, in the order of [`StallRecord`].
fn stall(kind: u32, size: u32, mut rest: Bytes) -> Result<StallRecord, TryGetError> {
    Ok(StallRecord {
        kind,
        size,
        end_ns: rest.try_get_u64_ne()?,
        duration_ns: rest.try_get_u64_ne()?,
        ino: rest.try_get_u64_ne()?,
        index: rest.try_get_u64_ne()?,
        cgroup_id: rest.try_get_u64_ne()?,
        stack: rest.try_get_u64_ne()?,
        pid: rest.try_get_u32_ne()?,
        tid: rest.try_get_u32_ne()?,
        comm: array::<COMM_LEN>(&mut rest)?,
        process: array::<COMM_LEN>(&mut rest)?,
        backing: backing(&mut rest)?,
        subvolume: rest.try_get_u32_ne()?,
        padding: rest.try_get_u32_ne()?,
    })
}

/// The fields of an unstable write after its kind and size, in the order of [`UnstableRecord`].
fn unstable(kind: u32, size: u32, mut rest: Bytes) -> Result<UnstableRecord, TryGetError> {
    Ok(UnstableRecord {
        kind,
        size,
        time_ns: rest.try_get_u64_ne()?,
        ino: rest.try_get_u64_ne()?,
        index: rest.try_get_u64_ne()?,
        cgroup_id: rest.try_get_u64_ne()?,
        stack: rest.try_get_u64_ne()?,
        pid: rest.try_get_u32_ne()?,
        tid: rest.try_get_u32_ne()?,
        comm: array::<COMM_LEN>(&mut rest)?,
        process: array::<COMM_LEN>(&mut rest)?,
        key: UnstableKey {
            backing: backing(&mut rest)?,
            context: rest.try_get_u32_ne()?,
            required: rest.try_get_u32_ne()?,
        },
        subvolume: rest.try_get_u32_ne()?,
        padding: rest.try_get_u32_ne()?,
    })
}

/// The fields of an integrity failure after its kind and size, in the order of
/// [`IntegrityRecord`].
fn integrity(kind: u32, size: u32, mut rest: Bytes) -> Result<IntegrityRecord, TryGetError> {
    Ok(IntegrityRecord {
        kind,
        size,
        time_ns: rest.try_get_u64_ne()?,
        sector: rest.try_get_u64_ne()?,
        sectors: rest.try_get_u64_ne()?,
        pages: rest.try_get_u64_ne()?,
        began_ns: rest.try_get_u64_ne()?,
        pid: rest.try_get_u32_ne()?,
        tid: rest.try_get_u32_ne()?,
        comm: array::<COMM_LEN>(&mut rest)?,
        key: IntegrityKey {
            dev: rest.try_get_u32_ne()?,
            op: rest.try_get_u32_ne()?,
            check: rest.try_get_u32_ne()?,
            source: rest.try_get_u32_ne()?,
        },
        runs: {
            let mut runs = [PageRun::EMPTY; RUNS];
            for run in &mut runs {
                *run = PageRun {
                    kind: rest.try_get_u32_ne()?,
                    stable: rest.try_get_u32_ne()?,
                    count: rest.try_get_u64_ne()?,
                    first: Folio {
                        ino: rest.try_get_u64_ne()?,
                        index: rest.try_get_u64_ne()?,
                        backing: backing(&mut rest)?,
                        subvolume: rest.try_get_u32_ne()?,
                        padding: rest.try_get_u32_ne()?,
                    },
                };
            }
            runs
        },
    })
}

/// The fields of a sampled stack after its kind and size, in the order of [`StackSample`].
fn stack_sample(kind: u32, size: u32, mut rest: Bytes) -> Result<StackSample, TryGetError> {
    Ok(StackSample {
        kind,
        size,
        table: rest.try_get_u32_ne()?,
        new: rest.try_get_u32_ne()?,
        valid_words: rest.try_get_u64_ne()?,
        stack: rest.try_get_u64_ne()?,
        end: rest.try_get_u64_ne()?,
        begin_end: rest.try_get_u64_ne()?,
        frames: words::<FRAMES>(&mut rest)?,
        window: words::<WINDOW_WORDS>(&mut rest)?,
    })
}

fn words<const N: usize>(rest: &mut Bytes) -> Result<[u64; N], TryGetError> {
    let mut words = [0; N];
    for word in &mut words {
        *word = rest.try_get_u64_ne()?;
    }
    Ok(words)
}

/// The fields of a path after its kind and size, in the order of [`PathRecord`].
fn names(mut rest: Bytes) -> Result<FileNames, TryGetError> {
    let backing = backing(&mut rest)?;
    let subvolume = rest.try_get_u32_ne()?;
    let flags = rest.try_get_u32_ne()?;
    let ino = rest.try_get_u64_ne()?;
    let length = rest.try_get_u64_ne()?;
    // A record of this kind has room for all names: a larger length is cut.
    rest.truncate(usize::try_from(length).unwrap_or(usize::MAX));
    Ok(FileNames { backing, subvolume, ino, flags, names: rest })
}

fn backing(rest: &mut Bytes) -> Result<Backing, TryGetError> {
    Ok(Backing {
        kind: rest.try_get_u32_ne()?,
        dev: rest.try_get_u32_ne()?,
        fs: array::<FS_LEN>(rest)?,
        name: array::<NAME_LEN>(rest)?,
    })
}

fn array<const N: usize>(rest: &mut Bytes) -> Result<[u8; N], TryGetError> {
    let mut array = [0; N];
    rest.try_copy_to_slice(&mut array)?;
    Ok(array)
}

/// The text of a NUL-padded name. Bytes that are not UTF-8 become U+FFFD.
pub(crate) fn name(padded: &[u8]) -> SmolStr {
    let end = padded.iter().position(|&byte| byte == 0).unwrap_or(padded.len());
    SmolStr::new(String::from_utf8_lossy(&padded[..end]))
}

#[cfg(test)]
pub(crate) use self::tests::stall_bytes;

#[cfg(test)]
mod tests;
