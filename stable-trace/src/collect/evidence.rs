//! Reads the ring of evidence: the parts of failed checks, which are put together again.

use std::collections::VecDeque;

use aya::maps::{MapData, RingBuf};
use bytes::Buf as _;
use stable_trace_common::evidence::{CONTENT, DATA, DATA_AGAIN, EvidenceRecord, TUPLES};

/// Parts that are kept until the records of their failures are read: twice what the programs fill the ring with. The
/// oldest make room.
const MOST_PARTS: usize = 1024;

/// The failure that evidence belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FailureId {
    /// When it was seen: `CLOCK_MONOTONIC` in ns.
    pub(crate) time_ns: u64,
    /// Its first sector, in units of 512 bytes.
    pub(crate) sector: u64,
    /// The disk, as a `dev_t`.
    pub(crate) dev: u32,
}

/// What was copied of one failure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Copied {
    /// The data from the first sector on.
    pub(crate) data: Vec<u8>,
    /// The same memory, read once more.
    pub(crate) again: Vec<u8>,
    /// The tuples from the first sector on.
    pub(crate) tuples: Vec<u8>,
    /// Bytes of all tuples of the bios that have some here, and of the data of these bios.
    pub(crate) tuple_bytes: u64,
    pub(crate) bio_bytes: u64,
}

/// The consumer of the map `EVIDENCE`.
pub(crate) struct EvidenceRing {
    ring: RingBuf<MapData>,
    pending: Pending,
}

impl EvidenceRing {
    pub(crate) fn new(ring: RingBuf<MapData>) -> Self {
        Self { ring, pending: Pending::default() }
    }

    /// Takes what was copied of a failure. All of it is in the ring before the failure's own record.
    pub(crate) fn take(&mut self, failure: FailureId) -> Option<Copied> {
        self.read();
        self.pending.take(failure)
    }

    /// Failures whose evidence made room before their own records were read.
    pub(crate) const fn dropped(&self) -> u64 {
        self.pending.dropped
    }

    /// Whether there is evidence of failures whose own records have not been read.
    pub(crate) fn is_pending(&self) -> bool {
        !self.pending.failures.is_empty()
    }

    /// Reads the ring until it is empty.
    pub(crate) fn read(&mut self) {
        while let Some(item) = self.ring.next() {
            self.pending.add(&item);
        }
    }
}

/// Evidence whose failures have not been read yet.
#[derive(Default)]
struct Pending {
    /// The oldest first.
    failures: VecDeque<Evidence>,
    /// Number of all their parts.
    parts: usize,
    /// Failures that made room.
    dropped: u64,
}

/// The evidence of one failure.
struct Evidence {
    failure: FailureId,
    parts: usize,
    copied: Copied,
}

impl Pending {
    /// Adds a record. Bytes that are none are ignored: only the programs write to the ring.
    fn add(&mut self, mut bytes: &[u8]) {
        if bytes.len() < EvidenceRecord::SIZE {
            return;
        }
        let (kind, length) = (bytes.get_u32_ne(), bytes.get_u32_ne());
        let (time_ns, sector, dev) = (bytes.get_u64_ne(), bytes.get_u64_ne(), bytes.get_u32_ne());
        let (tuple_bytes, at) = (bytes.get_u32_ne(), bytes.get_u64_ne());
        let length = usize::try_from(length).map_or(CONTENT, |length| length.min(CONTENT));
        let content = &bytes[..length];
        let copied = self.of(FailureId { time_ns, sector, dev });
        match kind {
            DATA => append(&mut copied.data, at, content),
            DATA_AGAIN => append(&mut copied.again, at, content),
            // Behind a part that is missing nothing can be compared.
            TUPLES if copied.tuples.len() as u64 == copied.tuple_bytes => {
                copied.tuples.extend_from_slice(content);
                copied.tuple_bytes += u64::from(tuple_bytes);
                copied.bio_bytes += at;
            }
            _ => {}
        }
    }

    /// What one more part of a failure belongs to.
    fn of(&mut self, failure: FailureId) -> &mut Copied {
        let known = self.failures.iter().rposition(|evidence| evidence.failure == failure);
        let at = known.unwrap_or_else(|| {
            while self.parts >= MOST_PARTS
                && let Some(oldest) = self.failures.pop_front()
            {
                self.parts -= oldest.parts;
                self.dropped += 1;
            }
            self.failures.push_back(Evidence { failure, parts: 0, copied: Copied::default() });
            self.failures.len() - 1
        });
        self.parts += 1;
        self.failures[at].parts += 1;
        &mut self.failures[at].copied
    }

    fn take(&mut self, failure: FailureId) -> Option<Copied> {
        let at = self.failures.iter().position(|evidence| evidence.failure == failure)?;
        let evidence = self.failures.remove(at)?;
        self.parts -= evidence.parts;
        Some(evidence.copied)
    }
}

/// Appends what follows what is there, as for tuples.
fn append(all: &mut Vec<u8>, at: u64, content: &[u8]) {
    if all.len() as u64 == at {
        all.extend_from_slice(content);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u32, failure: FailureId, tuple_bytes: u32, at: u64, content: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend([kind, u32::try_from(content.len()).unwrap()].map(u32::to_ne_bytes).concat());
        bytes.extend([failure.time_ns, failure.sector].map(u64::to_ne_bytes).concat());
        bytes.extend([failure.dev, tuple_bytes].map(u32::to_ne_bytes).concat());
        bytes.extend(at.to_ne_bytes());
        bytes.extend(content);
        bytes.resize(EvidenceRecord::SIZE, 0xee);
        bytes
    }

    const ONE: FailureId = FailureId { time_ns: 7, sector: 8, dev: 9 };
    const OTHER: FailureId = FailureId { time_ns: 7, sector: 16, dev: 9 };

    #[test]
    fn the_parts_of_failures_are_put_together() {
        let mut pending = Pending::default();
        pending.add(&record(TUPLES, ONE, 16, 1024, &[1; 8]));
        pending.add(&record(DATA, ONE, 0, 0, &[2; 100]));
        pending.add(&record(DATA, OTHER, 0, 0, &[9; 4]));
        pending.add(&record(DATA, ONE, 0, 100, &[3; 50]));
        pending.add(&record(DATA_AGAIN, ONE, 0, 0, &[2; 100]));
        let copied = pending.take(ONE).unwrap();
        assert_eq!(copied.data, [vec![2; 100], vec![3; 50]].concat());
        assert_eq!((copied.again.len(), copied.tuples), (100, vec![1; 8]));
        assert_eq!((copied.tuple_bytes, copied.bio_bytes), (16, 1024));
        assert_eq!(pending.take(ONE), None);
        assert_eq!(pending.take(OTHER).unwrap().data, [9; 4]);
        // A request of two bios; a third whose place is unknown.
        for (tuple_bytes, content) in [(8, [1; 8]), (16, [2; 8]), (8, [3; 8])] {
            pending.add(&record(
                TUPLES,
                ONE,
                tuple_bytes,
                512 * u64::from(tuple_bytes / 8),
                &content,
            ));
        }
        let copied = pending.take(ONE).unwrap();
        assert_eq!(copied.tuples, [[1; 8], [2; 8]].concat());
        assert_eq!((copied.tuple_bytes, copied.bio_bytes), (24, 3 * 512));
    }

    #[test]
    fn data_behind_a_missing_part_is_left_out() {
        let mut pending = Pending::default();
        pending.add(&record(DATA, ONE, 0, 4096, &[1; 8]));
        pending.add(&[0; 10]);
        assert!(pending.take(ONE).unwrap().data.is_empty());
    }

    #[test]
    fn the_oldest_make_room_and_are_counted() {
        let mut pending = Pending::default();
        for time_ns in 0..1_000 {
            for kind in [TUPLES, DATA] {
                pending.add(&record(kind, FailureId { time_ns, ..ONE }, 8, 0, &[1; 8]));
            }
        }
        assert_eq!((pending.failures.len(), pending.parts), (512, 1024));
        assert_eq!(pending.dropped, 1_000 - 512);
        assert!(pending.take(FailureId { time_ns: 999, ..ONE }).is_some());
        assert!(pending.take(FailureId { time_ns: 0, ..ONE }).is_none());
        assert_eq!((pending.failures.len(), pending.parts), (511, 1022));
    }
}
