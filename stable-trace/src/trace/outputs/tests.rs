//! An output that is blocked beside one that is not.

use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use stable_trace_analysis::{
    event::{Event, Lost},
    sink::EventSink,
    units::Timestamp,
};

use super::{queue::CAPACITY, *};

/// Counts lines. Blocked while the gate is locked.
#[derive(Clone, Default)]
struct Gated {
    gate: Arc<Mutex<()>>,
    written: Arc<AtomicU64>,
    outcome: Option<io::ErrorKind>,
}

impl EventSink for Gated {
    fn line(&mut self, _: &Line) -> io::Result<()> {
        drop(self.gate.lock().unwrap());
        if let Some(kind) = self.outcome {
            return Err(kind.into());
        }
        self.written.fetch_add(1, Relaxed);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Gated {
    fn failing(kind: io::ErrorKind) -> Self {
        Self { outcome: Some(kind), ..Self::default() }
    }

    fn block(&self) -> MutexGuard<'_, ()> {
        self.gate.lock().unwrap()
    }

    fn destination(&self, output: Output) -> Destination {
        Destination { output, sink: Box::new(self.clone()), written: Arc::clone(&self.written) }
    }
}

fn line(seq: u64) -> Arc<Line> {
    let event = Event::Lost(Lost::default());
    Arc::new(Line { seq, time: Timestamp::default(), monotonic_ns: None, event })
}

/// Writes as many lines, a batch at a time. Waits for this output after each.
fn write(outputs: &mut Outputs, count: usize, awaited: &Gated) {
    for seq in 0..count as u64 {
        outputs.line(&line(seq));
        if seq % 1_000 == 0 {
            outputs.flush();
            while awaited.written.load(Relaxed) <= seq {
                std::thread::yield_now();
            }
        }
    }
    outputs.flush();
}

#[test]
fn a_blocked_output_loses_lines_and_the_other_none() {
    const MORE: usize = 500;
    let (blocked, open) = (Gated::default(), Gated::default());
    let destinations =
        vec![blocked.destination(Output::Stdout), open.destination(Output::Recording)];
    let gate = blocked.block();
    let mut outputs = Outputs::start(destinations).unwrap();
    write(&mut outputs, CAPACITY + MORE, &open);
    let more = MORE as u64;
    assert_eq!(outputs.lost(), [(Output::Stdout, more), (Output::Recording, 0)].into());
    let loss = OutputLoss { output: Output::Stdout, count: more, ended: false };
    assert_eq!(outputs.losses(false), [loss]);
    // The line that tells so is lost, too: that is told when the output takes lines again.
    outputs.line(&line(1));
    outputs.flush();
    assert_eq!(outputs.losses(false), []);
    assert_eq!(outputs.losses(true), [OutputLoss { count: 1, ..loss }]);

    outputs.settle();
    let all = (CAPACITY + MORE + 1) as u64;
    assert_eq!(outputs.lost()[&Output::Stdout], all);
    let ended = OutputLoss { count: all - more - 1, ended: true, ..loss };
    assert_eq!(outputs.losses(true), [ended]);
    assert_eq!(outputs.losses(true), []);
    // The summary is one more line that it lacks.
    assert_eq!(outputs.lost_after_next(), [(Output::Stdout, all + 1)].into());
    outputs.line(&line(2));
    outputs.finish();
    assert_eq!(outputs.lost()[&Output::Stdout], all + 1);
    assert_eq!(open.written.load(Relaxed), all + 1);
    drop(gate);
}

#[test]
fn an_output_that_fails_ends_alone() {
    let (failing, open) = (Gated::failing(io::ErrorKind::StorageFull), Gated::default());
    let destinations = vec![failing.destination(Output::File), open.destination(Output::Recording)];
    let mut outputs = Outputs::start(destinations).unwrap();
    write(&mut outputs, 10, &open);
    outputs.finish();
    assert_eq!(outputs.lost(), [(Output::File, 10), (Output::Recording, 0)].into());
    let ended = OutputLoss { output: Output::File, count: 10, ended: true };
    assert_eq!(outputs.losses(false), [ended]);
    assert!(!outputs.reader_closed());
}

#[test]
fn a_reader_that_closes_its_pipe_is_no_loss() {
    let closed = Gated::failing(io::ErrorKind::BrokenPipe);
    let mut outputs = Outputs::start(vec![closed.destination(Output::Stdout)]).unwrap();
    outputs.line(&line(1));
    outputs.finish();
    assert!(outputs.reader_closed());
    assert_eq!((outputs.losses(true), outputs.lost_after_next()), (vec![], BTreeMap::new()));
}

#[test]
fn an_output_that_takes_lines_may_be_behind_and_a_blocked_one_may_not() {
    let gated = Gated::default();
    let mut outputs = Outputs::start(vec![gated.destination(Output::Stdout)]).unwrap();
    assert!(!outputs.are_behind());
    let gate = gated.block();
    for seq in 0..CAPACITY as u64 {
        outputs.line(&line(seq));
    }
    outputs.flush();
    assert!(outputs.are_behind(), "it may still take some");
    outputs.all[0].progress_at = Instant::now().checked_sub(BLOCKED_AFTER).unwrap();
    assert!(!outputs.are_behind());
    drop(gate);
    outputs.finish();
    assert_eq!(gated.written.load(Relaxed), CAPACITY as u64);
}
