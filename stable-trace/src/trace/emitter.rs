//! The stream of one run: lines get their number and their time here, are counted, and give the
//! verdicts that are streamed after them.

use std::{collections::BTreeMap, io, time::Instant};

use stable_trace_analysis::{
    correlate::{
        engine::Engine,
        verdict::{Limits, tally::VerdictTally},
    },
    event::{Event, Line, Lost, Summary, Verdict},
    sink::EventSink,
    units::{MonotonicTime, Timestamp},
};

use super::clock;

/// Where the events of a run go.
pub struct Emitter {
    sink: Box<dyn EventSink>,
    seq: u64,
    counts: BTreeMap<String, u64>,
    lost: u64,
    /// When it was last looked how many were lost.
    looked: Instant,
    engine: Engine,
}

impl Emitter {
    /// Starts an empty stream.
    #[must_use]
    pub fn new(sink: Box<dyn EventSink>, limits: Limits) -> Self {
        let counts =
            ["start", "stall", "unstable_write", "integrity", "verdict", "workload", "lost"]
                .map(|kind| (kind.to_owned(), 0));
        Self {
            sink,
            seq: 0,
            counts: counts.into(),
            lost: 0,
            looked: Instant::now(),
            engine: Engine::new(limits),
        }
    }

    /// Writes an event that happens now.
    ///
    /// # Errors
    /// What the writer says.
    pub fn now(&mut self, event: Event) -> io::Result<()> {
        self.write(Timestamp::now(), event)
    }

    /// Writes an event that happened at a time of the kernel's clock.
    ///
    /// # Errors
    /// The writer's error.
    pub fn at(&mut self, time: MonotonicTime, event: Event) -> io::Result<()> {
        self.write(clock::wall_time(time), event)
    }

    /// Writes an event of another process, with the time that it reported.
    ///
    /// # Errors
    /// The writer's error.
    pub fn reported(&mut self, time: Timestamp, event: Event) -> io::Result<()> {
        self.write(time, event)
    }

    /// Gives the verdicts that are due by now: whatever happened has been written.
    ///
    /// # Errors
    /// What the writer says.
    pub fn settle(&mut self) -> io::Result<()> {
        let due = self.engine.settle(Timestamp::now().unix_ns());
        self.verdicts(due)
    }

    /// Gives the verdicts that are left: no more events come.
    ///
    /// # Errors
    /// What the writer says.
    pub fn finish(&mut self) -> io::Result<()> {
        let due = self.engine.finish();
        self.verdicts(due)
    }

    /// Adds to a summary what only the stream's engine knows.
    pub fn sum_up(&self, summary: &mut Summary) {
        self.engine.sum_up(summary);
    }

    /// The verdicts so far.
    #[must_use]
    pub const fn tally(&self) -> &VerdictTally {
        self.engine.tally()
    }

    fn write(&mut self, time: Timestamp, event: Event) -> io::Result<()> {
        let line = self.line(time, event)?;
        let due = self.engine.observe(&line);
        self.verdicts(due)
    }

    fn verdicts(&mut self, due: Vec<Verdict>) -> io::Result<()> {
        for verdict in due {
            self.line(Timestamp::now(), Event::Verdict(verdict))?;
        }
        Ok(())
    }

    fn line(&mut self, time: Timestamp, event: Event) -> io::Result<Line> {
        self.seq += 1;
        if let Some(count) = self.counts.get_mut(event.kind()) {
            *count += 1;
        }
        let line = Line { seq: self.seq, time, event };
        self.sink.line(&line)?;
        Ok(line)
    }

    /// Says how many lines the ring has dropped in all; writes a line if that is event.
    ///
    /// # Errors
    /// What the writer says.
    pub fn lost(&mut self, total: u64) -> io::Result<()> {
        let since = std::mem::replace(&mut self.looked, Instant::now()).elapsed();
        let count = total.saturating_sub(self.lost);
        if count == 0 {
            return Ok(());
        }
        self.lost = total;
        self.now(Event::Lost(Lost {
            count,
            since_seq: self.seq,
            within_ns: u64::try_from(since.as_nanos()).ok(),
        }))
    }

    /// Lines so far, by type.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.counts.clone()
    }

    /// Hands what was written to whoever reads.
    ///
    /// # Errors
    /// What the writer says.
    pub fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, rc::Rc};

    use stable_trace_analysis::{
        event::{Check, IntegrityError, Operation, Page, PageKind, Source},
        units::DeviceId,
    };

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Rc<RefCell<Vec<Line>>>);

    impl EventSink for Kept {
        fn line(&mut self, line: &Line) -> io::Result<()> {
            self.0.borrow_mut().push(line.clone());
            Ok(())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn numbers_have_no_gaps_and_a_loss_is_said_once() {
        let kept = Kept::default();
        let mut stream = Emitter::new(Box::new(kept.clone()), Limits::default());
        stream.lost(0).unwrap();
        stream.lost(4).unwrap();
        stream.lost(4).unwrap();
        stream.lost(9).unwrap();
        let lines = kept.0.borrow();
        let seen: Vec<_> = lines
            .iter()
            .map(|line| match &line.event {
                Event::Lost(lost) => (line.seq, lost.count, lost.since_seq),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(seen, [(1, 4, 0), (2, 5, 1)]);
        assert_eq!(stream.counts()["lost"], 2);
        assert_eq!(stream.counts()["stall"], 0);
    }

    /// The stream says verdicts as they fall due, and its own lines are a recording of the same.
    #[test]
    fn verdicts_follow_in_the_stream_and_a_recording_gives_the_same() {
        let error = || {
            Event::Integrity(IntegrityError {
                op: Operation::Write,
                device: Some("sda".to_owned()),
                dev: Some(DeviceId::new(8, 0)),
                sector: 8,
                sectors: 8,
                check: Check::Guard,
                source: Source::Scsi,
                status: "EILSEQ".to_owned(),
                pages: vec![Page {
                    kind: PageKind::Anonymous,
                    ino: None,
                    index: None,
                    device: None,
                    dev: None,
                    fs: None,
                    stable: None,
                }],
                pages_total: None,
                fs: None,
                path: None,
                pid: None,
                tid: None,
                comm: None,
            })
        };
        let kept = Kept::default();
        let mut stream = Emitter::new(Box::new(kept.clone()), Limits::default());
        let now = clock::monotonic();
        let before = MonotonicTime::from_ns(now.ns() - 9_000_000_000);
        stream.at(before, error()).unwrap();
        stream.settle().unwrap();
        stream.at(now, error()).unwrap();
        stream.settle().unwrap();
        assert_eq!((stream.counts()["integrity"], stream.counts()["verdict"]), (2, 1));
        stream.finish().unwrap();
        let mut summary = Summary { counts: stream.counts(), ..Summary::default() };
        stream.sum_up(&mut summary);
        stream.now(Event::Summary(summary.clone())).unwrap();

        let lines = kept.0.borrow();
        let kinds: Vec<_> = lines.iter().map(|line| (line.seq, line.event.kind())).collect();
        assert_eq!(
            kinds,
            [(1, "integrity"), (2, "verdict"), (3, "integrity"), (4, "verdict"), (5, "summary")]
        );
        assert_eq!(summary.counts["verdict"], 2);
        assert_eq!(summary.verdicts[0].count, 2);
        assert_eq!(summary.associations[0].integrity_errors, 2);

        let mut engine = Engine::new(Limits::default());
        let mut again: Vec<_> = lines.iter().flat_map(|line| engine.observe(line)).collect();
        again.extend(engine.finish());
        let said: Vec<_> = lines
            .iter()
            .filter_map(|line| match &line.event {
                Event::Verdict(verdict) => Some(verdict.clone()),
                _ => None,
            })
            .collect();
        assert_eq!(said, again);
        let mut reported = Summary { counts: summary.counts.clone(), ..Summary::default() };
        engine.sum_up(&mut reported);
        assert_eq!(reported, summary);
    }
}
