//! The lines that wait for one output: bounded, between the event loop and the thread that writes.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use stable_trace_analysis::event::Line;

/// Lines that wait for an output, at most.
pub(super) const CAPACITY: usize = 16_384;

/// Lines that the writer takes at once.
const BATCH: usize = 256;

/// Why an output takes no more lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Its reader has closed the pipe.
    ReaderClosed,
    /// Writing failed.
    Failed,
    /// The run is over, and the output was blocked.
    GivenUp,
    /// The run is over, and all is written.
    Finished,
}

/// A queue with one writer. The event loop never waits for it.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// Wakes the writer.
    filled: Condvar,
    /// Lines that the output has taken.
    written: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Arc<Line>>,
    /// Lines that the writer has taken, and not written yet.
    in_hand: usize,
    /// Lines that were given to the queue: those that it took, and those that it did not.
    accepted: u64,
    refused: u64,
    /// No more lines come.
    closed: bool,
    end: Option<End>,
}

impl State {
    fn room(&self) -> usize {
        CAPACITY.saturating_sub(self.waiting.len() + self.in_hand)
    }
}

impl Queue {
    /// `written` is the number of lines that the output has taken; the writer counts it up.
    pub(super) fn new(written: Arc<AtomicU64>) -> Self {
        Self { state: Mutex::default(), filled: Condvar::new(), written }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code that holds the lock panics.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives lines to the writer. Those that find no room are lost.
    pub(super) fn push(&self, lines: &[Arc<Line>]) {
        if lines.is_empty() {
            return;
        }
        let mut state = self.state();
        let room = if state.end.is_some() { 0 } else { state.room() };
        let (taken, refused) = lines.split_at(room.min(lines.len()));
        state.waiting.extend(taken.iter().map(Arc::clone));
        state.accepted += taken.len() as u64;
        state.refused += refused.len() as u64;
        drop(state);
        self.filled.notify_one();
    }

    /// Takes lines, in the writer. Empty if none come for this time, `None` if none will come.
    pub(super) fn take(&self, timeout: Duration) -> Option<Vec<Arc<Line>>> {
        let state = self.state();
        let empty = |state: &mut State| state.waiting.is_empty() && !state.closed;
        let (mut state, _) = self
            .filled
            .wait_timeout_while(state, timeout, empty)
            .unwrap_or_else(PoisonError::into_inner);
        if state.end.is_some() || state.closed && state.waiting.is_empty() {
            return None;
        }
        let count = state.waiting.len().min(BATCH);
        let batch: Vec<_> = state.waiting.drain(..count).collect();
        state.in_hand = count;
        Some(batch)
    }

    /// All lines that the writer has taken are written.
    pub(super) fn set_written(&self) {
        self.state().in_hand = 0;
    }

    /// Ends the output. The lines that wait are lost. The first reason stands.
    pub(super) fn end(&self, end: End) {
        let mut state = self.state();
        state.end.get_or_insert(end);
        state.waiting = VecDeque::new();
        state.in_hand = 0;
        drop(state);
        self.filled.notify_one();
    }

    /// No more lines come: the writer ends when all are written.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.filled.notify_one();
    }

    pub(super) fn ended(&self) -> Option<End> {
        self.state().end
    }

    /// Whether nothing is left to be written.
    pub(super) fn is_idle(&self) -> bool {
        let state = self.state();
        state.end.is_some() || state.waiting.is_empty() && state.in_hand == 0
    }

    /// For how many lines there is room.
    pub(super) fn room(&self) -> usize {
        self.state().room()
    }

    /// Lines that the output has taken.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Relaxed)
    }

    /// Lines that the output lacks.
    pub(super) fn lost(&self) -> u64 {
        let state = self.state();
        let unwritten = match state.end {
            // The others may still be written.
            None => 0,
            Some(_) => state.accepted.saturating_sub(self.written()),
        };
        state.refused + unwritten
    }
}

#[cfg(test)]
mod tests {
    use stable_trace_analysis::{
        event::{Event, Lost},
        units::Timestamp,
    };

    use super::*;

    const NOW: Duration = Duration::ZERO;

    fn lines(seqs: impl IntoIterator<Item = u64>) -> Vec<Arc<Line>> {
        let line = |seq| Line {
            seq,
            time: Timestamp::default(),
            monotonic_ns: None,
            event: Event::Lost(Lost::default()),
        };
        seqs.into_iter().map(|seq| Arc::new(line(seq))).collect()
    }

    /// Takes and writes one batch.
    fn write(queue: &Queue) -> Vec<u64> {
        let batch = queue.take(NOW).unwrap();
        queue.written.fetch_add(batch.len() as u64, Relaxed);
        queue.set_written();
        batch.iter().map(|line| line.seq).collect()
    }

    #[test]
    fn lines_come_in_order_and_only_those_without_room_are_lost() {
        let queue = Queue::new(Arc::default());
        let capacity = CAPACITY as u64;
        queue.push(&lines(0..capacity - 1));
        queue.push(&lines(capacity - 1..capacity + 4));
        assert_eq!((queue.room(), queue.lost()), (0, 4));
        let mut written = write(&queue);
        assert_eq!(queue.room(), BATCH);
        // Lines in the writer's hand take room, too.
        let batch = queue.take(NOW).unwrap();
        assert_eq!((batch.len(), queue.room()), (BATCH, BATCH));
        queue.written.fetch_add(batch.len() as u64, Relaxed);
        queue.set_written();
        written.extend(batch.iter().map(|line| line.seq));
        queue.push(&lines([capacity + 4]));
        while !queue.is_idle() {
            written.extend(write(&queue));
        }
        assert!(written.into_iter().eq((0..capacity).chain([capacity + 4])));
        assert_eq!((queue.lost(), queue.written()), (4, capacity + 1));
    }

    #[test]
    fn lines_that_were_not_written_are_lost_when_the_output_ends() {
        let queue = Queue::new(Arc::default());
        queue.push(&lines(0..1_000));
        let batch = queue.take(NOW).unwrap();
        // The writer is blocked, and part of its batch is written.
        queue.written.fetch_add(batch.len() as u64 - 100, Relaxed);
        assert!(!queue.is_idle());
        assert_eq!(queue.lost(), 0);
        queue.end(End::GivenUp);
        queue.end(End::Finished);
        queue.push(&lines(1_000..1_007));
        assert_eq!(queue.ended(), Some(End::GivenUp));
        assert_eq!(queue.lost() + queue.written(), 1_007);
        assert!(queue.is_idle());
        assert!(queue.take(NOW).is_none());
    }

    #[test]
    fn a_closed_queue_is_written_to_its_end() {
        let queue = Queue::new(Arc::default());
        assert!(queue.take(NOW).unwrap().is_empty(), "no line within the time");
        queue.push(&lines([1]));
        queue.close();
        assert_eq!(write(&queue), [1]);
        assert!(queue.take(Duration::from_hours(1)).is_none());
    }

    #[test]
    fn a_line_wakes_the_writer() {
        let queue = Queue::new(Arc::default());
        std::thread::scope(|scope| {
            let taken = scope.spawn(|| queue.take(Duration::from_hours(1)).unwrap().len());
            queue.push(&lines([1]));
            assert_eq!(taken.join().unwrap(), 1);
        });
    }
}
