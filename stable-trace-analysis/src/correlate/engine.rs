//! What a run, or a report of its recording, feeds every line to.
//!
//! ```
//! use stable_trace_analysis::{correlate::{engine::Engine, verdict::Limits}, event::{Line, Summary}};
//!
//! # fn lines() -> Vec<Line> { Vec::new() }
//! let mut engine = Engine::new(Limits::default());
//! let mut verdicts = Vec::new();
//! for line in lines() {
//!     verdicts.extend(engine.observe(&line));
//! }
//! verdicts.extend(engine.finish());
//! let mut summary = Summary::default();
//! engine.sum_up(&mut summary);
//! assert!(summary.verdicts.is_empty());
//! ```

use super::{
    association::Associations,
    pairing::Pairing,
    verdict::{Correlator, Limits, tally::VerdictTally},
};
use crate::event::{Line, Summary, Verdict};

/// Verdicts, how many there are, and how stalls and integrity errors go together.
///
/// It passes over the verdicts and the summary of the stream itself, so a recording may be fed to
/// it as it is. How the lines are cut into batches does not matter, nor do lines that come later
/// than younger ones by less than [`Limits::slack`].
#[derive(Debug)]
pub struct Engine {
    correlator: Correlator,
    tally: VerdictTally,
    associations: Associations,
    pairing: Pairing,
}

impl Engine {
    /// Has seen nothing.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            correlator: Correlator::new(limits),
            tally: VerdictTally::default(),
            associations: Associations::new(limits.window, limits.slack),
            pairing: Pairing::default(),
        }
    }

    /// Takes a line, and gives the verdicts that are due now, the oldest error's first.
    pub fn observe(&mut self, line: &Line) -> Vec<Verdict> {
        self.associations.observe(line);
        self.pairing.observe(line);
        let due = self.correlator.observe(line);
        self.counted(due)
    }

    /// Gives the verdicts that are due because every event up to `now_ns` (since 1970, in UTC) has
    /// been observed. A live run says so when nothing is left to read, so that verdicts do not
    /// wait for the next event; a report need not, and comes to the same verdicts.
    pub fn settle(&mut self, now_ns: u64) -> Vec<Verdict> {
        let due = self.correlator.settle(now_ns);
        self.counted(due)
    }

    /// Gives the verdicts that are left: nothing more comes.
    pub fn finish(&mut self) -> Vec<Verdict> {
        let due = self.correlator.finish();
        self.counted(due)
    }

    /// Writes what only the engine knows into a summary: `verdicts`, `associations` and
    /// `workload_errors`.
    pub fn sum_up(&self, summary: &mut Summary) {
        summary.verdicts = self.tally.summaries();
        summary.associations = self.associations.result();
        summary.workload_errors = self.pairing.result();
    }

    /// The verdicts so far, by device and cause.
    #[must_use]
    pub const fn tally(&self) -> &VerdictTally {
        &self.tally
    }

    fn counted(&mut self, due: Vec<Verdict>) -> Vec<Verdict> {
        for verdict in &due {
            self.tally.add(verdict);
        }
        due
    }
}
