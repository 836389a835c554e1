//! Reads the lines that verdicts cite as evidence, in a second pass over the recording.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::BufRead,
};

use super::Report;
use crate::{event::Line, recording::Reader};

/// The limit of lines that are shown for one verdict.
const MAX_LINES: usize = 12;

/// The sequence numbers of all evidence that a report shows.
pub fn sequence_numbers(report: &Report) -> BTreeSet<u64> {
    let entries = report.verdicts.iter();
    entries.flat_map(|entry| shown(&entry.verdict.evidence).iter().copied()).collect()
}

/// The part of a verdict's evidence that is shown.
pub(super) fn shown(evidence: &[u64]) -> &[u64] {
    evidence.get(..MAX_LINES).unwrap_or(evidence)
}

/// Reads the lines with these sequence numbers. Skips lines that cannot be read. If the recording is
/// known to be `undamaged`, other lines are not parsed.
pub fn read(input: impl BufRead, wanted: &BTreeSet<u64>, undamaged: bool) -> BTreeMap<u64, Line> {
    let Some(last) = wanted.last() else { return BTreeMap::new() };
    let reader = Reader::new(input);
    let reader = if undamaged { reader.only(wanted.clone()) } else { reader };
    reader
        .filter_map(Result::ok)
        .take_while(|line| line.seq <= *last)
        .filter(|line| wanted.contains(&line.seq))
        .map(|line| (line.seq, line))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORDED: &str = include_str!("../../tests/fixtures/recordings/format-1.jsonl");

    #[test]
    fn skipping_other_lines_reads_the_same_evidence() {
        let count = RECORDED.lines().count() as u64;
        for first in [1, 2, 50] {
            let wanted: BTreeSet<u64> = (first..=count).step_by(7).collect();
            let lines = read(RECORDED.as_bytes(), &wanted, false);
            assert!(lines.keys().eq(&wanted));
            assert_eq!(read(RECORDED.as_bytes(), &wanted, true), lines);
        }
    }
}
