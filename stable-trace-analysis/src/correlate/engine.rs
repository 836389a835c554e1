//! The engine that a run, or a report of its recording, feeds every line to.
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
use crate::{
    event::{Line, Summary, Verdict},
    units::MonotonicTime,
};

/// Computes verdicts and their number, associations, and the paired errors of the workload.
///
/// It ignores the verdicts and the summary of the stream itself, so it takes the lines of a
/// recording as they are. Batches of lines, and lines out of order by less than
/// [`Limits::slack`], do not change the results.
#[derive(Debug)]
pub struct Engine {
    correlator: Correlator,
    tally: VerdictTally,
    associations: Associations,
    pairing: Pairing,
}

impl Engine {
    /// An engine that has observed no line.
    pub fn new(limits: Limits) -> Self {
        Self {
            correlator: Correlator::new(limits),
            tally: VerdictTally::default(),
            associations: Associations::new(limits.window, limits.slack),
            pairing: Pairing::default(),
        }
    }

    /// Takes a line. Returns the verdicts that are due now, the verdict on the oldest error first.
    pub fn observe(&mut self, line: &Line) -> Vec<Verdict> {
        self.associations.observe(line);
        self.pairing.observe(line);
        let due = self.correlator.observe(line);
        self.count(due)
    }

    /// Returns the verdicts that are due if every event up to `now` has been observed. A live run calls it when the ring buffer is empty, so that verdicts do not wait
    /// for the next event. A report gets the same verdicts without it.
    pub fn settle(&mut self, now: MonotonicTime) -> Vec<Verdict> {
        let due = self.correlator.settle(now.ns());
        self.count(due)
    }

    /// Returns the remaining verdicts at the end of the stream.
    pub fn finish(&mut self) -> Vec<Verdict> {
        let due = self.correlator.finish();
        self.count(due)
    }

    /// Sets the fields of a summary that the engine computes: `verdicts`, `associations` and
    /// `workload_errors`.
    pub fn sum_up(&self, summary: &mut Summary) {
        summary.verdicts = self.tally.summaries();
        summary.associations = self.associations.result();
        summary.workload_errors = self.pairing.result();
    }

    /// The number of verdicts so far, by device and cause.
    pub const fn tally(&self) -> &VerdictTally {
        &self.tally
    }

    fn count(&mut self, due: Vec<Verdict>) -> Vec<Verdict> {
        for verdict in &due {
            self.tally.add(verdict);
        }
        due
    }
}
