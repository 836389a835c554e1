//! The lines that verdicts rest on, fetched from a recording once it is known which they are.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::BufRead,
};

use super::Report;
use crate::{event::Line, recording::Reader};

/// The most lines that are shown of one verdict.
const OF_ONE: usize = 12;

/// The numbers of the lines to fetch: of each verdict listed, its error and the first of its evidence.
#[must_use]
pub fn wanted(report: &Report) -> BTreeSet<u64> {
    let listed = report.verdicts.iter();
    listed.flat_map(|listed| shown(&listed.verdict.evidence).iter().copied()).collect()
}

/// The evidence that is shown of a verdict.
#[must_use]
pub fn shown(evidence: &[u64]) -> &[u64] {
    evidence.get(..OF_ONE).unwrap_or(evidence)
}

/// Fetches lines by their numbers; what cannot be read is left out. If the recording is known to be
/// `sound`, the other lines are hardly looked at.
pub fn fetch(input: impl BufRead, wanted: &BTreeSet<u64>, sound: bool) -> BTreeMap<u64, Line> {
    let Some(last) = wanted.last() else { return BTreeMap::new() };
    let reader = Reader::new(input);
    let reader = if sound { reader.only(wanted.clone()) } else { reader };
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
    fn of_a_sound_recording_the_lines_are_the_same() {
        let count = RECORDED.lines().count() as u64;
        for first in [1, 2, 50] {
            let wanted: BTreeSet<u64> = (first..=count).step_by(7).collect();
            let lines = fetch(RECORDED.as_bytes(), &wanted, false);
            assert!(lines.keys().eq(&wanted));
            assert_eq!(fetch(RECORDED.as_bytes(), &wanted, true), lines);
        }
    }
}
