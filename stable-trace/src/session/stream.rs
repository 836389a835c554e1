//! The stream of one run: lines get their number and their time here, and are counted.

use std::{collections::BTreeMap, io, time::SystemTime};

use super::clock;
use crate::{
    correlate::pairing::Pairing,
    event::{Event, Line, Lost, WorkloadErrors},
    output::Form,
};

/// Where the events of a run go.
pub struct Stream {
    form: Box<dyn Form>,
    seq: u64,
    counts: BTreeMap<String, u64>,
    lost: u64,
    pairing: Pairing,
}

impl Stream {
    /// Starts an empty stream.
    #[must_use]
    pub fn new(form: Box<dyn Form>) -> Self {
        let counts =
            ["start", "stall", "unstable_write", "integrity", "verdict", "workload", "lost"]
                .map(|kind| (kind.to_owned(), 0));
        Self { form, seq: 0, counts: counts.into(), lost: 0, pairing: Pairing::default() }
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

    fn write(&mut self, time: String, event: Event) -> io::Result<()> {
        self.seq += 1;
        if let Some(count) = self.counts.get_mut(event.kind()) {
            *count += 1;
        }
        let line = Line { seq: self.seq, time, event };
        self.pairing.observe(&line);
        self.form.line(&line)
    }

    /// Says how many lines the ring has dropped in all; writes a line if that is news.
    ///
    /// # Errors
    /// What the writer says.
    pub fn lost(&mut self, total: u64) -> io::Result<()> {
        let count = total.saturating_sub(self.lost);
        if count == 0 {
            return Ok(());
        }
        self.lost = total;
        self.now(Event::Lost(Lost { count, since_seq: self.seq }))
    }

    /// What the workload was refused so far, beside the integrity errors of the same time.
    #[must_use]
    pub fn pairing(&self) -> Vec<WorkloadErrors> {
        self.pairing.result()
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
        let mut stream = Stream::new(Box::new(kept.clone()));
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
}
