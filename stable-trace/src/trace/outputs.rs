//! The outputs of a run. Each has a thread and a bounded queue, so that the event loop never waits for a reader or a
//! disk.

mod queue;
mod stream;
mod writer;

use std::{
    collections::BTreeMap,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use stable_trace_analysis::event::{Line, Output};

use self::queue::{End, Queue};
pub(crate) use self::{stream::Stream, writer::Destination};

/// The event loop leaves records in the ring while an output has room for fewer lines than this: more than one batch
/// of records becomes.
const RESERVE: usize = 4096;

/// An output that has taken no line for this time is blocked.
const BLOCKED_AFTER: Duration = Duration::from_secs(1);

/// The end of a run waits for an output that takes no line for this time.
const END_BLOCKED: Duration = Duration::from_secs(2);

/// The end of a run waits for this time for slow outputs.
const END_SLOW: Duration = Duration::from_secs(30);

/// How often the end of a run looks at its outputs.
const END_INTERVAL: Duration = Duration::from_millis(1);

/// The shortest time between two `lost` lines of an output.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Where the lines of a run go.
pub(crate) struct Outputs {
    all: Vec<Channel>,
    /// Lines that have not been given to the queues yet.
    pending: Vec<Arc<Line>>,
    /// When the end of the run began to wait for the outputs.
    ending_since: Option<Instant>,
}

/// One output, as the event loop knows it.
struct Channel {
    output: Output,
    queue: Arc<Queue>,
    /// Lines that were written when that was last looked at, and when it last increased.
    written: u64,
    progress_at: Instant,
    /// Lost lines that have been reported, and when.
    reported: u64,
    reported_at: Option<Instant>,
    /// Whether the loss that lasts has been reported. The rest of it follows when the output takes lines again.
    in_loss: bool,
    /// Whether a report tells that the output has ended.
    end_reported: bool,
    warned: bool,
}

/// Lines that an output lacks since the last report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OutputLoss {
    pub(super) output: Output,
    pub(super) count: u64,
    /// Whether writing to it failed.
    pub(super) ended: bool,
}

impl Outputs {
    /// Starts a thread for each output.
    pub(crate) fn start(destinations: Vec<Destination>) -> io::Result<Self> {
        let start = |destination: Destination| {
            let output = destination.output;
            Ok(Channel::new(output, writer::start(destination)?))
        };
        let all = destinations.into_iter().map(start).collect::<io::Result<_>>()?;
        Ok(Self { all, pending: Vec::new(), ending_since: None })
    }

    /// No output: for a run of which only the counters are used.
    pub(crate) const fn none() -> Self {
        Self { all: Vec::new(), pending: Vec::new(), ending_since: None }
    }

    /// Takes a line. It is written after the next [`flush`](Self::flush).
    pub(super) fn line(&mut self, line: &Arc<Line>) {
        if !self.all.is_empty() {
            self.pending.push(Arc::clone(line));
        }
    }

    /// Gives the lines to the threads.
    pub(super) fn flush(&mut self) {
        for channel in &self.all {
            channel.queue.push(&self.pending);
        }
        self.pending.clear();
    }

    /// Whether an output that takes lines has little room left.
    pub(super) fn are_behind(&mut self) -> bool {
        self.all.iter_mut().any(|channel| channel.progresses() && channel.queue.room() < RESERVE)
    }

    /// Whether the reader of an output has closed it.
    pub(super) fn reader_closed(&self) -> bool {
        self.all.iter().any(|channel| channel.queue.ended() == Some(End::ReaderClosed))
    }

    /// Lines that each output lacks so far.
    pub(super) fn lost(&self) -> BTreeMap<Output, u64> {
        self.all.iter().map(|channel| (channel.output, channel.queue.lost())).collect()
    }

    /// Lines that each output lacks after one more, which the outputs that have ended will lack. Without those that
    /// lack none.
    pub(super) fn lost_after_next(&self) -> BTreeMap<Output, u64> {
        let lost = |channel: &Channel| {
            let next = u64::from(channel.queue.ended().is_some());
            (channel.output, channel.queue.lost() + next)
        };
        let closed = |channel: &&Channel| channel.queue.ended() != Some(End::ReaderClosed);
        let all = self.all.iter().filter(closed).map(lost);
        all.filter(|(_, count)| *count > 0).collect()
    }

    /// What outputs lack that has not been reported. With `all` also what is better reported later.
    pub(super) fn losses(&mut self, all: bool) -> Vec<OutputLoss> {
        self.all.iter_mut().filter_map(|channel| channel.loss(all)).collect()
    }

    /// At the end of a run: waits until there is room for a batch of records, unless outputs are blocked or the end
    /// takes too long.
    pub(super) fn await_room(&mut self) {
        self.flush();
        let began = *self.ending_since.get_or_insert_with(Instant::now);
        while began.elapsed() < END_SLOW && self.are_behind() {
            std::thread::sleep(END_INTERVAL);
        }
    }

    /// At the end of a run: waits until all lines are written. Gives up an output that is blocked.
    pub(super) fn settle(&mut self) {
        self.flush();
        self.await_all(|channel| channel.queue.is_idle());
    }

    /// Waits until all outputs are complete and closed. Gives up those that are blocked.
    pub(super) fn finish(&mut self) {
        self.flush();
        for channel in &self.all {
            channel.queue.close();
        }
        self.await_all(|channel| channel.queue.ended().is_some());
    }

    fn await_all(&mut self, is_done: impl Fn(&Channel) -> bool) {
        let ending_since = *self.ending_since.get_or_insert_with(Instant::now);
        let began = Instant::now();
        for channel in &mut self.all {
            channel.progress_at = began;
            while !is_done(channel) {
                let blocked = channel.progress().elapsed() > END_BLOCKED;
                if blocked || ending_since.elapsed() > END_SLOW {
                    channel.give_up();
                    break;
                }
                std::thread::sleep(END_INTERVAL);
            }
        }
    }
}

/// The lines of a run that ends early are written, too.
impl Drop for Outputs {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Channel {
    fn new(output: Output, queue: Arc<Queue>) -> Self {
        Self {
            output,
            queue,
            written: 0,
            progress_at: Instant::now(),
            reported: 0,
            reported_at: None,
            in_loss: false,
            end_reported: false,
            warned: false,
        }
    }

    /// When the output last took a line, as far as that has been looked at.
    fn progress(&mut self) -> Instant {
        let written = self.queue.written();
        if written != self.written {
            self.written = written;
            self.progress_at = Instant::now();
        }
        self.progress_at
    }

    /// Whether the output takes lines, or would if there were any.
    fn progresses(&mut self) -> bool {
        if self.queue.is_idle() {
            self.progress_at = Instant::now();
        }
        self.queue.ended().is_none() && self.progress().elapsed() < BLOCKED_AFTER
    }

    fn give_up(&mut self) {
        self.queue.end(End::GivenUp);
        log::warn!(
            "{}: it takes no more lines, and {} are missing from it",
            describe(self.output),
            self.queue.lost()
        );
        self.warned = true;
    }

    fn loss(&mut self, all: bool) -> Option<OutputLoss> {
        let end = self.queue.ended();
        let count = self.queue.lost().saturating_sub(self.reported);
        let is_over = matches!(end, Some(End::ReaderClosed | End::Finished));
        if is_over || self.end_reported || (count == 0 && end.is_none()) {
            return None;
        }
        let recent = self.reported_at.is_some_and(|at| at.elapsed() < REPORT_INTERVAL);
        self.in_loss &= self.queue.room() == 0;
        if end.is_none() && !all && (self.in_loss || recent) {
            return None;
        }
        if !std::mem::replace(&mut self.warned, true) && end.is_none() {
            log::warn!(
                "{}: it takes lines too slowly, and lacks some (the summary has their number)",
                describe(self.output)
            );
        }
        self.in_loss = true;
        self.end_reported = end.is_some();
        self.reported += count;
        self.reported_at = Some(Instant::now());
        Some(OutputLoss { output: self.output, count, ended: end.is_some() })
    }
}

const fn describe(output: Output) -> &'static str {
    match output {
        Output::Stdout => "standard output",
        Output::File => "--output",
        Output::Recording => "--record",
    }
}

#[cfg(test)]
mod tests;
