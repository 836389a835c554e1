//! The verdicts of a recording, and the same worked out once more from its other lines.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    correlate::{engine::Engine, verdict::Limits},
    event::{Event, Line, Start, Summary, Verdict},
};

/// The most verdicts that wait for their like.
const WAITING: usize = 4096;

/// How the recorded verdicts compare with those worked out here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Agreement {
    /// Verdicts that are the same.
    pub same: u64,
    /// Verdicts that are not, or are on one side alone.
    pub different: u64,
}

/// Works verdicts out, and holds them against those recorded.
pub struct Verdicts {
    asked: Option<Duration>,
    engine: Engine,
    /// Whether another window is asked for than the run had: then its own verdicts do not count.
    pub anew: bool,
    recorded_total: u64,
    recorded: BTreeMap<u64, Verdict>,
    computed: BTreeMap<u64, Verdict>,
    agreement: Agreement,
}

impl Verdicts {
    /// With this window instead of the run's, if any.
    pub fn new(asked: Option<Duration>) -> Self {
        let window = asked.unwrap_or(Limits::default().window);
        Self {
            asked,
            engine: Engine::new(Limits { window, ..Limits::default() }),
            anew: false,
            recorded_total: 0,
            recorded: BTreeMap::new(),
            computed: BTreeMap::new(),
            agreement: Agreement::default(),
        }
    }

    /// Takes a line. Gives the verdicts that stand in place of the recorded ones, if those do not
    /// count.
    pub fn line(&mut self, line: &Line) -> Vec<Verdict> {
        if let Event::Start(start) = &line.event {
            self.start(start);
        }
        let due = self.engine.observe(line);
        if self.anew {
            return due;
        }
        for verdict in due {
            self.computed(verdict);
        }
        if let Event::Verdict(verdict) = &line.event {
            self.recorded(verdict);
        }
        Vec::new()
    }

    fn start(&mut self, start: &Start) {
        let had = start.window_ns.map(Duration::from_nanos);
        self.anew = self.asked.is_some_and(|asked| had != Some(asked));
        let window = self.asked.or(had).unwrap_or(Limits::default().window);
        self.engine = Engine::new(Limits { window, ..Limits::default() });
    }

    fn recorded(&mut self, verdict: &Verdict) {
        self.recorded_total += 1;
        match self.computed.remove(&verdict.integrity_seq) {
            Some(other) => self.compare(&other, verdict),
            None => self.keep(|all| &mut all.recorded, verdict.clone()),
        }
    }

    fn computed(&mut self, verdict: Verdict) {
        match self.recorded.remove(&verdict.integrity_seq) {
            Some(other) => self.compare(&other, &verdict),
            None => self.keep(|all| &mut all.computed, verdict),
        }
    }

    fn keep(&mut self, side: impl Fn(&mut Self) -> &mut BTreeMap<u64, Verdict>, verdict: Verdict) {
        let waiting = side(self);
        waiting.insert(verdict.integrity_seq, verdict);
        if waiting.len() > WAITING {
            waiting.pop_first();
            self.agreement.different += 1;
        }
    }

    fn compare(&mut self, one: &Verdict, other: &Verdict) {
        if one == other {
            self.agreement.same += 1;
        } else {
            self.agreement.different += 1;
        }
    }

    /// Ends: the verdicts that the recording should have and has not, and how the others compare.
    /// What the engine knows goes into the summary, unless that came from the run itself.
    pub fn finish(mut self, summary: &mut Summary, ended: bool) -> (Vec<Verdict>, Agreement) {
        let left = self.engine.finish();
        if self.anew || !ended {
            self.engine.sum_up(summary);
        }
        if self.anew {
            return (left, Agreement::default());
        }
        for verdict in left {
            self.computed(verdict);
        }
        let Self { recorded, computed, mut agreement, recorded_total, .. } = self;
        agreement.different += recorded.len() as u64;
        if ended && recorded_total > 0 {
            agreement.different += computed.len() as u64;
            return (Vec::new(), agreement);
        }
        (computed.into_values().collect(), agreement)
    }
}
