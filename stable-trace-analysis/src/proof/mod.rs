//! Recomputes the guards of a failed check, and says what data and protection information prove.

mod guard;

pub use self::guard::Guard;
use crate::event::{Operation, Proof, ProofKind};

/// What was copied of a failed check, from the first sector of the failed part on.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// The operation.
    pub op: Operation,
    /// The format of the protection information.
    pub guard: Guard,
    /// Bytes that one tuple protects.
    pub interval_bytes: usize,
    /// Bytes from one tuple to the next. More than a tuple if the device's metadata has more.
    pub tuple_stride: usize,
    /// The data.
    pub data: &'a [u8],
    /// The same memory, read once more; empty if it was not.
    pub again: &'a [u8],
    /// The tuples.
    pub tuples: &'a [u8],
    /// Intervals that failed. Fewer or more may have been copied.
    pub failed_intervals: u64,
    /// The reference tag that the first tuple should have; `None` if the format has none.
    pub reference: Option<u64>,
}

impl Evidence<'_> {
    /// What the evidence proves, by the first interval that says something.
    pub fn proof(&self) -> Proof {
        if self.tuple_stride < self.guard.tuple_bytes() || self.interval_bytes == 0 {
            return Proof::none("the tuples are not of the format that the device names");
        }
        let intervals = || self.data.chunks_exact(self.interval_bytes);
        let tuples = self.tuples.chunks(self.tuple_stride);
        let mut intact = None;
        let mut compared = 0;
        // What was copied beyond the failed ones helps to recognise data of another interval, and proves nothing.
        let failed = 0..self.failed_intervals.max(1);
        for (number, (data, tuple)) in failed.zip(intervals().zip(tuples)) {
            let Some(stored) = self.guard.of_tuple(tuple) else { break };
            let computed = self.guard.of_data(data);
            let figures = Proof {
                interval: Some(number),
                stored_guard: Some(stored),
                computed_guard: Some(computed),
                ..Proof::of(ProofKind::MemoryIntact)
            };
            if self.changes(number, data) {
                return Proof { kind: ProofKind::MemoryChanging, ..figures };
            }
            if stored != computed {
                return self.mismatch(figures, data);
            }
            if self.op == Operation::Read && self.is_of_another_place(number, tuple) {
                return Proof { kind: ProofKind::ForeignData, ..figures };
            }
            intact.get_or_insert(figures);
            compared = number + 1;
        }
        if compared < self.failed_intervals {
            return Proof::none(format!(
                "only {compared} of {} intervals could be compared",
                self.failed_intervals
            ));
        }
        match intact {
            // The first stands for all: none of them says anything else.
            Some(first) => first,
            None => Proof::none("no interval was copied as a whole"),
        }
    }

    /// Whether the second reading of an interval differs from the first.
    fn changes(&self, number: u64, data: &[u8]) -> bool {
        let at = usize::try_from(number).ok().and_then(|number| number.checked_mul(data.len()));
        let again = at.and_then(|at| self.again.get(at..at.checked_add(data.len())?));
        self.op == Operation::Write && again.is_some_and(|again| again != data)
    }

    /// What it says that data does not match its guard.
    fn mismatch(&self, figures: Proof, data: &[u8]) -> Proof {
        if self.op == Operation::Write {
            return Proof { kind: ProofKind::MemoryChanged, ..figures };
        }
        let guards = (figures.stored_guard, figures.computed_guard);
        let (Some(stored), Some(computed)) = guards else { return figures };
        if data.iter().all(|byte| *byte == 0) || self.is_another_interval(computed, stored) {
            return Proof { kind: ProofKind::ForeignData, ..figures };
        }
        match self.guard.flipped_bit(data.len(), stored, computed) {
            Some((offset, bit)) => Proof {
                kind: ProofKind::BitFlip,
                offset: u64::try_from(offset).ok(),
                bit: Some(bit),
                ..figures
            },
            None => Proof {
                kind: ProofKind::None,
                why_none: Some(
                    "the data differs from what was signed in more than one bit".to_owned(),
                ),
                ..figures
            },
        }
    }

    /// Whether data with this guard is what another tuple of the request protects.
    fn is_another_interval(&self, computed: u64, stored: u64) -> bool {
        let tuples = self.tuples.chunks(self.tuple_stride);
        let mut guards = tuples.filter_map(|tuple| self.guard.of_tuple(tuple));
        computed != stored && guards.any(|guard| guard == computed)
    }

    /// Whether the tuple of an interval has the reference tag of another place.
    fn is_of_another_place(&self, number: u64, tuple: &[u8]) -> bool {
        let mask = (1_u64 << self.guard.reference_bits()) - 1;
        let expected = self.reference.map(|first| first.wrapping_add(number) & mask);
        let found = self.guard.reference(tuple);
        expected.is_some_and(|expected| found.is_some_and(|found| found != expected))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Data of intervals that differ from each other.
    fn data(intervals: usize) -> Vec<u8> {
        (0..intervals * 512).map(|at| u8::try_from((at * 7 + at / 512) % 251).unwrap()).collect()
    }

    /// The tuples of data at a place.
    fn tuples(data: &[u8], first: u32) -> Vec<u8> {
        let tuple = |(number, data): (u32, &[u8])| {
            let guard = u16::try_from(Guard::Crc16.of_data(data)).unwrap();
            [&guard.to_be_bytes()[..], &[0, 0], &(first + number).to_be_bytes()].concat()
        };
        (0..).zip(data.chunks(512)).flat_map(tuple).collect()
    }

    fn evidence<'a>(op: Operation, data: &'a [u8], tuples: &'a [u8]) -> Evidence<'a> {
        Evidence {
            op,
            guard: Guard::Crc16,
            interval_bytes: 512,
            tuple_stride: 8,
            data,
            again: &[],
            tuples,
            failed_intervals: (data.len() / 512) as u64,
            reference: Some(100),
        }
    }

    #[test]
    fn memory_that_matches_is_intact() {
        let data = data(8);
        let tuples = tuples(&data, 100);
        for op in [Operation::Write, Operation::Read] {
            let proof = evidence(op, &data, &tuples).proof();
            assert_eq!((proof.kind, proof.interval), (ProofKind::MemoryIntact, Some(0)));
            assert_eq!(proof.stored_guard, proof.computed_guard);
        }
    }

    #[test]
    fn memory_that_changed_is_named() {
        let signed = data(8);
        let tuples = tuples(&signed, 100);
        let mut now = signed;
        now[5 * 512 + 9] = !now[5 * 512 + 9];
        let proof = evidence(Operation::Write, &now, &tuples).proof();
        assert_eq!((proof.kind, proof.interval), (ProofKind::MemoryChanged, Some(5)));
        assert_ne!(proof.stored_guard, proof.computed_guard);
    }

    #[test]
    fn only_intervals_that_failed_prove_something() {
        let signed = data(8);
        let tuples = tuples(&signed, 100);
        let mut now = signed;
        now[512 + 9] = !now[512 + 9];
        for op in [Operation::Write, Operation::Read] {
            let found = Evidence { failed_intervals: 1, ..evidence(op, &now, &tuples) };
            let proof = found.proof();
            assert_eq!((proof.kind, proof.interval), (ProofKind::MemoryIntact, Some(0)));
        }
    }

    #[test]
    fn memory_that_changes_is_named() {
        let now = data(4);
        let tuples = tuples(&now, 100);
        let mut again = now.clone();
        again[700] ^= 1;
        let found = Evidence { again: &again, ..evidence(Operation::Write, &now, &tuples) };
        let proof = found.proof();
        assert_eq!((proof.kind, proof.interval), (ProofKind::MemoryChanging, Some(1)));
        // A buffer of a read belongs to its process again.
        assert_eq!(Evidence { op: Operation::Read, ..found }.proof().kind, ProofKind::MemoryIntact);
    }

    #[test]
    fn a_flipped_bit_of_a_read_is_named() {
        let signed = data(2);
        let tuples = tuples(&signed, 100);
        let mut came = signed;
        came[512 + 300] ^= 1 << 6;
        let proof = evidence(Operation::Read, &came, &tuples).proof();
        assert_eq!((proof.kind, proof.interval), (ProofKind::BitFlip, Some(1)));
        assert_eq!((proof.offset, proof.bit), (Some(300), Some(6)));
    }

    #[test]
    fn foreign_data_of_a_read_is_named() {
        let signed = data(4);
        let of_signed = tuples(&signed, 100);
        let zeros = [&signed[..1024], &[0; 1024][..]].concat();
        let proof = evidence(Operation::Read, &zeros, &of_signed).proof();
        assert_eq!((proof.kind, proof.interval), (ProofKind::ForeignData, Some(2)));
        let swapped = [&signed[512..1024], &signed[..512]].concat();
        let proof = evidence(Operation::Read, &swapped, &of_signed).proof();
        assert_eq!((proof.kind, proof.interval), (ProofKind::ForeignData, Some(0)));
        // Data and tuple of another place.
        let elsewhere = tuples(&signed, 500);
        let proof = evidence(Operation::Read, &signed, &elsewhere).proof();
        assert_eq!((proof.kind, proof.interval), (ProofKind::ForeignData, Some(0)));
        let untagged =
            Evidence { reference: None, ..evidence(Operation::Read, &signed, &elsewhere) };
        assert_eq!(untagged.proof().kind, ProofKind::MemoryIntact);
    }

    #[test]
    fn what_says_nothing_is_no_proof() {
        let signed = data(2);
        let of_signed = tuples(&signed, 100);
        let short = evidence(Operation::Write, &signed[..500], &of_signed).proof();
        assert_eq!(short.kind, ProofKind::None);
        let no_tuples = evidence(Operation::Write, &signed, &[]).proof();
        assert_eq!(no_tuples.kind, ProofKind::None);
        let narrow =
            Evidence { tuple_stride: 4, ..evidence(Operation::Write, &signed, &of_signed) };
        assert_eq!(narrow.proof().kind, ProofKind::None);
        let cut =
            Evidence { failed_intervals: 3, ..evidence(Operation::Write, &signed, &of_signed) };
        assert_eq!(cut.proof().kind, ProofKind::None, "the third may have changed");
        let mut garbled = signed.clone();
        garbled[..512].reverse();
        let garbled = evidence(Operation::Read, &garbled, &of_signed).proof();
        assert_ne!(garbled.kind, ProofKind::MemoryIntact);
    }

    #[test]
    fn further_metadata_beside_the_tuples_is_skipped() {
        let signed = data(2);
        let wide: Vec<u8> = tuples(&signed, 100)
            .chunks(8)
            .flat_map(|tuple| [tuple, &[0xee; 56]].concat())
            .collect();
        let found = Evidence { tuple_stride: 64, ..evidence(Operation::Write, &signed, &wide) };
        assert_eq!(found.proof().kind, ProofKind::MemoryIntact);
    }
}
