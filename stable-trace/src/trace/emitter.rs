//! Numbers, times and counts the lines of one run, and adds the verdicts that follow from them.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use stable_trace_analysis::{
    correlate::{
        engine::Engine,
        verdict::{Limits, tally::VerdictTally},
    },
    event::{Event, Line, Lost, Summary, Verdict},
    units::{MonotonicTime, Timestamp},
};

use super::{
    clock,
    outputs::{OutputLoss, Outputs},
};

/// Hands each event of a run, as a line, to the outputs and to the correlation engine.
pub(crate) struct Emitter {
    outputs: Outputs,
    seq: u64,
    /// Lines so far, by type.
    counts: BTreeMap<String, u64>,
    /// Records lost so far, as last reported.
    lost: u64,
    lost_checked_at: Instant,
    /// The same of writes that may not have been seen.
    unseen: u64,
    unseen_checked_at: Instant,
    engine: Engine,
    /// Both clocks, as read since the last flush: an event needs their difference.
    clocks: Option<(MonotonicTime, Timestamp)>,
}

impl Emitter {
    pub(crate) fn new(outputs: Outputs, limits: Limits) -> Self {
        Self {
            outputs,
            seq: 0,
            counts: Event::COUNTED_KINDS.map(|kind| (kind.to_owned(), 0)).into(),
            lost: 0,
            lost_checked_at: Instant::now(),
            unseen: 0,
            unseen_checked_at: Instant::now(),
            engine: Engine::new(limits),
            clocks: None,
        }
    }

    /// Writes an event that happens now.
    pub(crate) fn emit_now(&mut self, event: Event) {
        let (monotonic, wall) = clock::both_now();
        self.emit(wall, monotonic, event);
    }

    /// Writes an event that happened at a time of the kernel's clock.
    pub(crate) fn emit_at(&mut self, time: MonotonicTime, event: Event) {
        let clocks = *self.clocks.get_or_insert_with(clock::both_now);
        self.emit(clock::wall_time(time, clocks), time, event);
    }

    /// Writes an event of another process, with the time that it reported.
    pub(crate) fn emit_reported(&mut self, time: Timestamp, event: Event) {
        self.emit(time, clock::monotonic_time(time), event);
    }

    /// Writes the verdicts that are due now. All events up to now must have been written.
    pub(crate) fn emit_due_verdicts(&mut self) {
        let due = self.engine.settle(clock::monotonic());
        self.emit_verdicts(due);
    }

    /// Writes the verdicts that are left at the end of a run.
    pub(crate) fn emit_remaining_verdicts(&mut self) {
        let due = self.engine.finish();
        self.emit_verdicts(due);
    }

    /// Writes a `lost` line if the kernel has dropped more records than last reported. `total` is
    /// the count since the start of the run.
    pub(crate) fn emit_lost(&mut self, total: u64) {
        let since = std::mem::replace(&mut self.lost_checked_at, Instant::now()).elapsed();
        let count = total.saturating_sub(self.lost);
        if count == 0 {
            return;
        }
        self.lost = total;
        self.emit_loss(since, count, 0);
    }

    /// Writes a `lost` line if more writes may not have been seen than last reported. `total` is the count since the
    /// start of the run.
    pub(crate) fn emit_unseen(&mut self, total: u64) {
        let since = std::mem::replace(&mut self.unseen_checked_at, Instant::now()).elapsed();
        let unseen = total.saturating_sub(self.unseen);
        if unseen == 0 {
            return;
        }
        self.unseen = total;
        self.emit_loss(since, 0, unseen);
    }

    fn emit_loss(&mut self, within: Duration, count: u64, unseen: u64) {
        let within_ns = u64::try_from(within.as_nanos()).ok();
        self.emit_now(Event::Lost(Lost {
            count,
            since_seq: self.seq,
            within_ns,
            unseen,
            ..Lost::default()
        }));
    }

    /// Adds to a summary what the correlation engine knows.
    pub(crate) fn complete_summary(&self, summary: &mut Summary) {
        self.engine.sum_up(summary);
    }

    /// Counts of the verdicts so far.
    pub(crate) const fn tally(&self) -> &VerdictTally {
        self.engine.tally()
    }

    /// Lines so far, by type.
    pub(crate) fn counts(&self) -> BTreeMap<String, u64> {
        self.counts.clone()
    }

    /// Hands the lines to the threads that write them.
    pub(crate) fn flush(&mut self) {
        self.clocks = None;
        self.outputs.flush();
    }

    /// Writes a `lost` line for each output that lacks lines since the last such line. With `all` also where more may
    /// follow soon.
    pub(crate) fn emit_output_losses(&mut self, all: bool) {
        for OutputLoss { output, count, ended } in self.outputs.losses(all) {
            let lost =
                Lost { count, since_seq: self.seq, output: Some(output), ended, ..Lost::default() };
            self.emit_now(Event::Lost(lost));
        }
    }

    /// Waits until the outputs have written the lines so far, unless they are blocked, and reports what they lack.
    pub(crate) fn settle_outputs(&mut self) {
        self.outputs.settle();
        self.emit_output_losses(true);
        self.outputs.flush();
    }

    /// The outputs.
    pub(crate) const fn outputs(&mut self) -> &mut Outputs {
        &mut self.outputs
    }

    fn emit(&mut self, time: Timestamp, monotonic: MonotonicTime, event: Event) {
        let line = self.write_line(time, monotonic, event);
        let due = self.engine.observe(&line);
        self.emit_verdicts(due);
    }

    fn emit_verdicts(&mut self, due: Vec<Verdict>) {
        for verdict in due {
            let (monotonic, wall) = clock::both_now();
            self.write_line(wall, monotonic, Event::Verdict(verdict));
        }
    }

    fn write_line(&mut self, time: Timestamp, monotonic: MonotonicTime, event: Event) -> Arc<Line> {
        self.seq += 1;
        if let Some(count) = self.counts.get_mut(event.kind()) {
            *count += 1;
        }
        let line = Line { seq: self.seq, time, monotonic_ns: Some(monotonic.ns()), event };
        let line = Arc::new(line);
        self.outputs.line(&line);
        line
    }
}

#[cfg(test)]
mod tests {
    use std::{io, sync::Mutex};

    use stable_trace_analysis::{
        event::{Check, IntegrityError, Operation, Output, Page, PageKind, Source},
        sink::EventSink,
        units::DeviceId,
    };

    use super::*;
    use crate::trace::outputs::Destination;

    #[derive(Clone, Default)]
    struct SharedLines(Arc<Mutex<Vec<Line>>>);

    impl SharedLines {
        fn emitter(&self) -> Emitter {
            let destination = Destination {
                output: Output::Stdout,
                sink: Box::new(self.clone()),
                written: Arc::default(),
            };
            Emitter::new(Outputs::start(vec![destination]).unwrap(), Limits::default())
        }

        fn finish(&self, mut emitter: Emitter) -> Vec<Line> {
            emitter.outputs().finish();
            std::mem::take(&mut *self.0.lock().unwrap())
        }
    }

    impl EventSink for SharedLines {
        fn line(&mut self, line: &Line) -> io::Result<()> {
            self.0.lock().unwrap().push(line.clone());
            Ok(())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn seq_has_no_gaps_and_a_loss_is_reported_once() {
        let written = SharedLines::default();
        let mut emitter = written.emitter();
        emitter.emit_lost(0);
        emitter.emit_lost(4);
        emitter.emit_lost(4);
        emitter.emit_lost(9);
        assert_eq!((emitter.counts()["lost"], emitter.counts()["stall"]), (2, 0));
        let lines = written.finish(emitter);
        let seen: Vec<_> = lines
            .iter()
            .map(|line| match &line.event {
                Event::Lost(lost) => (line.seq, lost.count, lost.since_seq),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(seen, [(1, 4, 0), (2, 5, 1)]);
    }

    #[test]
    fn unseen_writes_are_reported_once() {
        let written = SharedLines::default();
        let mut emitter = written.emitter();
        for total in [0, 3, 3, 5] {
            emitter.emit_unseen(total);
        }
        assert_eq!((emitter.counts()["lost"], emitter.counts()["stall"]), (2, 0));
        let lines = written.finish(emitter);
        let seen = lines.iter().map(|line| match &line.event {
            Event::Lost(lost) => (lost.count, lost.unseen),
            other => panic!("{other:?}"),
        });
        assert_eq!(seen.collect::<Vec<_>>(), [(0, 3), (0, 2)]);
    }

    /// The emitter writes each verdict when it is due; an engine that reads the same lines agrees.
    #[test]
    fn due_verdicts_are_streamed_and_match_those_of_the_recording() {
        let error = || {
            Event::Integrity(IntegrityError {
                op: Operation::Write,
                device: Some("sda".to_owned()),
                dev: Some(DeviceId::new(8, 0)),
                sector: Some(8),
                sectors: 8,
                check: Check::Guard,
                source: Source::Scsi,
                began_ns_before: None,
                proof: None,
                status: "EILSEQ".to_owned(),
                pages: vec![Page::without_file(PageKind::Anonymous)],
                pages_total: None,
                fs: None,
                path: None,
                path_from: None,
                pid: None,
                tid: None,
                comm: None,
            })
        };
        let written = SharedLines::default();
        let mut emitter = written.emitter();
        let now = clock::monotonic();
        let before = MonotonicTime::from_ns(now.ns() - 9_000_000_000);
        emitter.emit_at(before, error());
        emitter.emit_due_verdicts();
        emitter.emit_at(now, error());
        emitter.emit_due_verdicts();
        assert_eq!((emitter.counts()["integrity"], emitter.counts()["verdict"]), (2, 1));
        emitter.emit_remaining_verdicts();
        let mut summary = Summary { counts: emitter.counts(), ..Summary::default() };
        emitter.complete_summary(&mut summary);
        emitter.emit_now(Event::Summary(summary.clone()));

        let lines = written.finish(emitter);
        let kinds: Vec<_> = lines.iter().map(|line| (line.seq, line.event.kind())).collect();
        assert_eq!(
            kinds,
            [(1, "integrity"), (2, "verdict"), (3, "integrity"), (4, "verdict"), (5, "summary")]
        );
        assert_eq!(summary.counts["verdict"], 2);
        assert_eq!(summary.verdicts[0].count, 2);
        assert_eq!(summary.associations[0].integrity_errors, 2);

        let mut engine = Engine::new(Limits::default());
        let mut recomputed: Vec<_> = lines.iter().flat_map(|line| engine.observe(line)).collect();
        recomputed.extend(engine.finish());
        let streamed: Vec<_> = lines
            .iter()
            .filter_map(|line| match &line.event {
                Event::Verdict(verdict) => Some(verdict.clone()),
                _ => None,
            })
            .collect();
        assert_eq!(streamed, recomputed);
        let mut recomputed = Summary { counts: summary.counts.clone(), ..Summary::default() };
        engine.sum_up(&mut recomputed);
        assert_eq!(recomputed, summary);
    }
}
