//! What caused each integrity error.

pub mod tally;

use std::time::Duration;

use crate::event::{Line, Verdict};

/// How far the correlator looks, and how much it remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long before an error what happened may have to do with it (`--window`).
    pub window: Duration,
    /// How much later than younger lines a line may come without changing a verdict.
    pub slack: Duration,
    /// How many events of each kind are remembered at once.
    pub max_events: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { window: Duration::from_secs(5), slack: Duration::from_secs(1), max_events: 65_536 }
    }
}

/// Gives a verdict for each integrity error.
#[derive(Debug)]
pub struct Correlator {}

impl Correlator {
    /// Has seen nothing.
    #[must_use]
    pub fn new(_limits: Limits) -> Self {
        Self {}
    }

    /// Takes a line, and gives the verdicts that are due now.
    pub fn observe(&mut self, _line: &Line) -> Vec<Verdict> {
        Vec::new()
    }

    /// Gives the verdicts that are due because every event up to `now_ns` has been observed.
    pub fn settle(&mut self, _now_ns: u64) -> Vec<Verdict> {
        Vec::new()
    }

    /// Gives the verdicts that are left.
    pub fn finish(&mut self) -> Vec<Verdict> {
        Vec::new()
    }
}
