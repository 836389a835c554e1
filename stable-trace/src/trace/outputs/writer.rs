//! The thread that writes the lines of one output.

use std::{
    io,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use stable_trace_analysis::{
    error_chain::ErrorChain,
    event::Output,
    sink::{EventSink, reader_is_open},
};

use super::queue::{End, Queue};
use crate::kernel::least_privilege::{self, Work};

/// How often an output is flushed that gets no lines: a compressed recording keeps lines for a while.
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);

/// An output that has been opened.
pub(crate) struct Destination {
    pub(crate) output: Output,
    /// Renders and writes, and may block.
    pub(crate) sink: Box<dyn EventSink + Send>,
    /// The number of lines that `sink` has written.
    pub(crate) written: Arc<AtomicU64>,
}

/// Starts the thread.
pub(super) fn start(destination: Destination) -> io::Result<Arc<Queue>> {
    let Destination { output, sink, written } = destination;
    let queue = Arc::new(Queue::new(written));
    let lines = Arc::clone(&queue);
    std::thread::Builder::new().name(output.name().to_owned()).spawn(move || {
        if let Err(error) = least_privilege::keep_only_for(Work::WriteLines) {
            log::warn!("{}: {}", output.name(), ErrorChain(&error));
        }
        lines.end(write_all(&lines, sink));
    })?;
    Ok(queue)
}

fn write_all(queue: &Queue, mut sink: Box<dyn EventSink + Send>) -> End {
    while let Some(batch) = queue.take(FLUSH_INTERVAL) {
        let written = batch.iter().try_for_each(|line| sink.line(line));
        match reader_is_open(written.and_then(|()| sink.flush())) {
            Ok(true) => queue.set_written(),
            Ok(false) => return End::ReaderClosed,
            Err(error) => {
                log::warn!("{}: the run goes on without it", ErrorChain(&error));
                return End::Failed;
            }
        }
    }
    // Writes what it has kept.
    drop(sink);
    End::Finished
}
