//! The stream of one run: lines get their number and their time here, are counted, and give the
//! verdicts that are streamed after them.

use std::{
    collections::BTreeMap,
    io,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use super::clock;
use crate::{
    correlate::{
        engine::Engine,
        verdict::{Limits, tally::VerdictTally},
    },
    event::{Event, Line, Lost, Summary, Verdict},
    output::Form,
};

/// Where the events of a run go.
pub struct Stream {
    form: Box<dyn Form>,
    seq: u64,
    counts: BTreeMap<String, u64>,
    lost: u64,
    /// When it was last looked how many were lost.
    looked: Instant,
    engine: Engine,
}

impl Stream {
    /// Starts an empty stream.
    #[must_use]
    pub fn new(form: Box<dyn Form>, limits: Limits) -> Self {
        let counts =
            ["start", "stall", "unstable_write", "integrity", "verdict", "workload", "lost"]
                .map(|kind| (kind.to_owned(), 0));
        Self {
            form,
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
        self.write(clock::rfc3339(SystemTime::now()), event)
    }

    /// Writes an event that happened at a time of the kernel's monotonic clock, in ns.
    ///
    /// # Errors
    /// What the writer says.
    pub fn at(&mut self, kernel_ns: u64, event: Event) -> io::Result<()> {
        self.write(clock::wall_time(kernel_ns), event)
    }

    /// Writes an event that somebody else has told of, with the time that they said: RFC 3339 in UTC.
    ///
    /// # Errors
    /// What the writer says.
    pub fn said(&mut self, time: String, event: Event) -> io::Result<()> {
        self.write(time, event)
    }

    /// Gives the verdicts that are due by now: whatever happened has been written.
    ///
    /// # Errors
    /// What the writer says.
    pub fn settle(&mut self) -> io::Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let due = self.engine.settle(u64::try_from(now.as_nanos()).unwrap_or(0));
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

    fn write(&mut self, time: String, event: Event) -> io::Result<()> {
        let line = self.line(time, event)?;
        let due = self.engine.observe(&line);
        self.verdicts(due)
    }

    fn verdicts(&mut self, due: Vec<Verdict>) -> io::Result<()> {
        for verdict in due {
            self.line(clock::rfc3339(SystemTime::now()), Event::Verdict(verdict))?;
        }
        Ok(())
    }

    fn line(&mut self, time: String, event: Event) -> io::Result<Line> {
        self.seq += 1;
        if let Some(count) = self.counts.get_mut(event.kind()) {
            *count += 1;
        }
        let line = Line { seq: self.seq, time, event };
        self.form.line(&line)?;
        Ok(line)
    }

    /// Says how many lines the ring has dropped in all; writes a line if that is news.
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
        self.form.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, rc::Rc};

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Rc<RefCell<Vec<Line>>>);

    impl Form for Kept {
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
        let mut stream = Stream::new(Box::new(kept.clone()), Limits::default());
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
            Event::Integrity(crate::correlate::sample::failure(
                "sda",
                8,
                vec![crate::correlate::sample::ANONYMOUS],
            ))
        };
        let kept = Kept::default();
        let mut stream = Stream::new(Box::new(kept.clone()), Limits::default());
        let now = clock::monotonic_ns();
        stream.at(now - 9_000_000_000, error()).unwrap();
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
