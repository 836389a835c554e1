//! Bytes of the ring to records. Total: any input is a record or a [`Malformed`], never a panic.

use bytes::{Buf, Bytes, TryGetError};
use stable_trace_common::record::{BDI_NAME_LEN, COMM_LEN, STALL, StallRecord};

/// One record of the ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A finished stall.
    Stall(StallRecord),
}

/// Why a record is none. The ring keeps record boundaries itself, so the next one is unharmed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It ends before its last field.
    #[error("a record of {have} bytes is shorter than its kind needs")]
    Short {
        /// Bytes there were.
        have: usize,
    },
    /// It is longer than its kind, or says another size than it has.
    #[error("a record of kind {kind} says {said} bytes, has {have}, and should have {expected}")]
    Size {
        /// Its kind.
        kind: u32,
        /// The size that it states.
        said: u32,
        /// The size that it has.
        have: usize,
        /// The size of its kind.
        expected: u32,
    },
    /// Nobody writes such records.
    #[error("a record is of the unknown kind {kind}")]
    Kind {
        /// Its kind.
        kind: u32,
    },
}

/// Decodes one record of the ring.
///
/// # Errors
/// [`Malformed`] for everything that the programs of this version do not write.
pub fn decode(record: Bytes) -> Result<Record, Malformed> {
    let have = record.len();
    let mut rest = record;
    let short = |_: TryGetError| Malformed::Short { have };
    let kind = rest.try_get_u32_ne().map_err(short)?;
    let size = rest.try_get_u32_ne().map_err(short)?;
    match kind {
        STALL => {
            if size != StallRecord::SIZE || have != StallRecord::SIZE as usize {
                return Err(Malformed::Size {
                    kind,
                    said: size,
                    have,
                    expected: StallRecord::SIZE,
                });
            }
            stall(kind, size, rest).map(Record::Stall).map_err(short)
        }
        kind => Err(Malformed::Kind { kind }),
    }
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
        bdi: array::<BDI_NAME_LEN>(&mut rest)?,
    })
}

fn array<const N: usize>(rest: &mut Bytes) -> Result<[u8; N], TryGetError> {
    let mut array = [0; N];
    rest.try_copy_to_slice(&mut array)?;
    Ok(array)
}

/// The text of a NUL-padded name; bytes that are no UTF-8 become U+FFFD.
#[must_use]
pub fn name(padded: &[u8]) -> String {
    let end = padded.iter().position(|&byte| byte == 0).unwrap_or(padded.len());
    String::from_utf8_lossy(&padded[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A stall as the kernel writes it: its fields in order, each in the host's byte order.
    fn bytes_of(stall: &StallRecord) -> Vec<u8> {
        let StallRecord {
            kind,
            size,
            end_ns,
            duration_ns,
            ino,
            index,
            cgroup_id,
            stack,
            pid,
            tid,
            comm,
            bdi,
        } = *stall;
        let mut bytes = Vec::new();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(size.to_ne_bytes());
        for word in [end_ns, duration_ns, ino, index, cgroup_id, stack] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(pid.to_ne_bytes());
        bytes.extend(tid.to_ne_bytes());
        bytes.extend(comm);
        bytes.extend(bdi);
        bytes
    }

    prop_compose! {
        fn any_stall()(
            words in any::<[u64; 6]>(), pid: u32, tid: u32, comm: [u8; COMM_LEN], bdi: [u8; BDI_NAME_LEN],
        ) -> StallRecord {
            let [end_ns, duration_ns, ino, index, cgroup_id, stack] = words;
            StallRecord {
                kind: STALL, size: StallRecord::SIZE,
                end_ns, duration_ns, ino, index, cgroup_id, stack, pid, tid, comm, bdi,
            }
        }
    }

    #[test]
    fn the_layout_is_the_one_that_the_kernel_writes() {
        // `bytes_of` writes the fields one after the other; the compiler lays the record out in
        // memory, and that is what the kernel side submits. Both must be the same bytes.
        assert_eq!(std::mem::offset_of!(StallRecord, end_ns), 8);
        assert_eq!(std::mem::offset_of!(StallRecord, stack), 48);
        assert_eq!(std::mem::offset_of!(StallRecord, pid), 56);
        assert_eq!(std::mem::offset_of!(StallRecord, comm), 64);
        assert_eq!(std::mem::offset_of!(StallRecord, bdi), 80);
        assert_eq!(StallRecord::SIZE, 112);
    }

    proptest! {
        #[test]
        fn what_the_kernel_writes_is_read_back(stall in any_stall()) {
            let decoded = decode(Bytes::from(bytes_of(&stall)));
            prop_assert_eq!(decoded, Ok(Record::Stall(stall)));
        }

        #[test]
        fn any_bytes_are_a_record_or_malformed(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let length = bytes.len();
            let kind = bytes.first_chunk().map(|first| u32::from_ne_bytes(*first));
            if let Ok(Record::Stall(stall)) = decode(Bytes::from(bytes)) {
                prop_assert_eq!(length, 112);
                prop_assert_eq!(kind, Some(stall.kind));
            }
        }

        #[test]
        fn a_record_cut_or_grown_is_malformed(stall in any_stall(), length in 0_usize..300) {
            prop_assume!(length != 112);
            let mut bytes = bytes_of(&stall);
            bytes.resize(length, 0);
            prop_assert!(decode(Bytes::from(bytes)).is_err());
        }

        #[test]
        fn an_unknown_kind_is_named(stall in any_stall(), kind: u32) {
            prop_assume!(kind != STALL);
            let bytes = bytes_of(&StallRecord { kind, ..stall });
            prop_assert_eq!(decode(Bytes::from(bytes)), Err(Malformed::Kind { kind }));
        }

        #[test]
        fn a_name_ends_at_its_first_nul(bytes in any::<[u8; 16]>()) {
            let text = name(&bytes);
            prop_assert!(!text.contains('\0'));
        }
    }
}
