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

/// Fetches lines by their numbers; what cannot be read is left out.
pub fn fetch(input: impl BufRead, wanted: &BTreeSet<u64>) -> BTreeMap<u64, Line> {
    let Some(last) = wanted.last() else { return BTreeMap::new() };
    Reader::new(input)
        .filter_map(Result::ok)
        .take_while(|line| line.seq <= *last)
        .filter(|line| wanted.contains(&line.seq))
        .map(|line| (line.seq, line))
        .collect()
}
