use std::mem::offset_of;

use proptest::prelude::*;

use super::*;

/// Encodes a backing: the fields in order, in native byte order.
fn backing_bytes(backing: &Backing) -> Vec<u8> {
    let Backing { kind, dev, fs, name } = *backing;
    [&kind.to_ne_bytes()[..], &dev.to_ne_bytes(), &fs, &name].concat()
}

/// Encodes a stall.
pub(crate) fn stall_bytes(stall: &StallRecord) -> Vec<u8> {
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
        process,
        backing,
        subvolume,
        padding,
    } = *stall;
    let mut bytes = [kind, size].map(u32::to_ne_bytes).concat();
    bytes
        .extend([end_ns, duration_ns, ino, index, cgroup_id, stack].map(u64::to_ne_bytes).concat());
    bytes.extend([pid, tid].map(u32::to_ne_bytes).concat());
    bytes.extend(comm);
    bytes.extend(process);
    bytes.extend(backing_bytes(&backing));
    bytes.extend([subvolume, padding].map(u32::to_ne_bytes).concat());
    bytes
}

/// Encodes an unstable write.
fn unstable_bytes(write: &UnstableRecord) -> Vec<u8> {
    let UnstableRecord {
        kind,
        size,
        time_ns,
        ino,
        index,
        cgroup_id,
        stack,
        pid,
        tid,
        comm,
        process,
        key: UnstableKey { backing, context, required },
        subvolume,
        padding,
    } = *write;
    let mut bytes = [kind, size].map(u32::to_ne_bytes).concat();
    bytes.extend([time_ns, ino, index, cgroup_id, stack].map(u64::to_ne_bytes).concat());
    bytes.extend([pid, tid].map(u32::to_ne_bytes).concat());
    bytes.extend(comm);
    bytes.extend(process);
    bytes.extend(backing_bytes(&backing));
    bytes.extend([context, required, subvolume, padding].map(u32::to_ne_bytes).concat());
    bytes
}

prop_compose! {
    fn any_backing()(
        kind: u32, dev: u32, fs: [u8; FS_LEN], name: [u8; NAME_LEN],
    ) -> Backing {
        Backing { kind, dev, fs, name }
    }
}

prop_compose! {
    fn any_stall()(
        words in any::<[u64; 6]>(), ids in any::<[u32; 4]>(), names in any::<[[u8; COMM_LEN]; 2]>(),
        backing in any_backing(),
    ) -> StallRecord {
        let [end_ns, duration_ns, ino, index, cgroup_id, stack] = words;
        let [comm, process] = names;
        let [pid, tid, subvolume, padding] = ids;
        StallRecord {
            kind: STALL, size: StallRecord::SIZE,
            end_ns, duration_ns, ino, index, cgroup_id, stack, pid, tid, comm, process, backing,
            subvolume, padding,
        }
    }
}

prop_compose! {
    fn any_unstable()(
        words in any::<[u64; 5]>(), halves in any::<[u32; 6]>(), names in any::<[[u8; COMM_LEN]; 2]>(),
        backing in any_backing(),
    ) -> UnstableRecord {
        let [time_ns, ino, index, cgroup_id, stack] = words;
        let [comm, process] = names;
        let [pid, tid, context, required, subvolume, padding] = halves;
        UnstableRecord {
            kind: UNSTABLE, size: UnstableRecord::SIZE,
            time_ns, ino, index, cgroup_id, stack, pid, tid, comm, process,
            key: UnstableKey { backing, context, required }, subvolume, padding,
        }
    }
}

#[test]
fn decoding_follows_the_layout_of_the_records() {
    // The encoders above write the fields one after the other. The programs submit a record as the
    // compiler lays it out in memory. Both must be the same bytes.
    assert_eq!(offset_of!(StallRecord, end_ns), 8);
    assert_eq!(offset_of!(StallRecord, stack), 48);
    assert_eq!(offset_of!(StallRecord, pid), 56);
    assert_eq!(offset_of!(StallRecord, comm), 64);
    assert_eq!(offset_of!(StallRecord, process), 80);
    assert_eq!(offset_of!(StallRecord, backing), 96);
    assert_eq!(offset_of!(StallRecord, subvolume), 136);
    assert_eq!(StallRecord::SIZE, 144);
    assert_eq!(offset_of!(UnstableRecord, stack), 40);
    assert_eq!(offset_of!(UnstableRecord, comm), 56);
    assert_eq!(offset_of!(UnstableRecord, process), 72);
    assert_eq!(offset_of!(UnstableRecord, key), 88);
    assert_eq!(offset_of!(UnstableKey, context), 40);
    assert_eq!(offset_of!(UnstableRecord, subvolume), 136);
    assert_eq!(UnstableRecord::SIZE, 144);
    assert_eq!(offset_of!(IntegrityRecord, pages), 32);
    assert_eq!(offset_of!(IntegrityRecord, began_ns), 40);
    assert_eq!(offset_of!(IntegrityRecord, pid), 48);
    assert_eq!(offset_of!(StackSample, valid_words), 16);
    assert_eq!(offset_of!(StackSample, begin_end), 40);
    assert_eq!(offset_of!(StackSample, frames), 48);
    assert_eq!(offset_of!(StackSample, window), 304);
    assert_eq!(offset_of!(PathRecord, flags), 52);
    assert_eq!(offset_of!(PathRecord, names), 72);
}

proptest! {
    #[test]
    fn a_stall_survives_encoding_and_decoding(stall in any_stall()) {
        let decoded = decode(Bytes::from(stall_bytes(&stall)));
        prop_assert_eq!(decoded, Ok(Record::Stall(stall)));
    }

    #[test]
    fn a_wait_is_decoded_as_a_stall(stall in any_stall()) {
        let wait = StallRecord { kind: WAITING, ..stall };
        let decoded = decode(Bytes::from(stall_bytes(&wait)));
        prop_assert_eq!(decoded, Ok(Record::Waiting(wait)));
    }

    #[test]
    fn an_unstable_write_survives_encoding_and_decoding(write in any_unstable()) {
        let decoded = decode(Bytes::from(unstable_bytes(&write)));
        prop_assert_eq!(decoded, Ok(Record::Unstable(write)));
    }

    #[test]
    fn any_bytes_are_a_record_or_malformed(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let length = bytes.len();
        if decode(Bytes::from(bytes)).is_ok() {
            let sizes = [StallRecord::SIZE, UnstableRecord::SIZE].map(|size| size as usize);
            prop_assert!(sizes.contains(&length));
        }
    }

    #[test]
    fn a_record_of_another_length_is_malformed(stall in any_stall(), length in 0_usize..300) {
        prop_assume!(length != StallRecord::SIZE as usize);
        let mut bytes = stall_bytes(&stall);
        bytes.resize(length, 0);
        prop_assert!(decode(Bytes::from(bytes)).is_err());
    }

    #[test]
    fn a_record_with_a_wrong_size_field_is_malformed(stall in any_stall(), size: u32) {
        prop_assume!(size != StallRecord::SIZE);
        let bytes = stall_bytes(&StallRecord { size, ..stall });
        prop_assert!(decode(Bytes::from(bytes)).is_err());
    }

    #[test]
    fn an_unknown_kind_is_named(stall in any_stall(), kind: u32) {
        prop_assume!(![STALL, UNSTABLE, WAITING].contains(&kind));
        let bytes = stall_bytes(&StallRecord { kind, ..stall });
        prop_assert_eq!(decode(Bytes::from(bytes)), Err(DecodeError::Kind { kind }));
    }

    #[test]
    fn a_name_ends_at_its_first_nul(bytes in any::<[u8; 16]>()) {
        prop_assert!(!name(&bytes).contains('\0'));
    }
}
