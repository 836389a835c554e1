//! Writes rendered lines in pieces, and counts the lines that were written completely.

use std::{
    collections::VecDeque,
    io::{self, BufWriter, Write},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use stable_trace_analysis::{event::Line, sink::EventSink};

/// `PIPE_BUF`: a pipe takes a piece of this size completely or blocks, so that it is known what it has taken.
const PIECE: usize = 4096;

/// Rendered text that is kept before it is written without a flush.
const BUFFER_BYTES: usize = 64 << 10;

/// The stream of a run: text or JSON, to standard output or a file.
pub(crate) struct Stream<W> {
    out: W,
    renderer: Box<dyn EventSink + Send>,
    text: RenderedText,
    /// Where each line ends in the text.
    ends: VecDeque<usize>,
    written: Arc<AtomicU64>,
    /// The text of an error: what cannot be written.
    what: String,
}

/// Writing failed.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
struct StreamError {
    what: String,
    #[source]
    source: io::Error,
}

impl<W: Write> Stream<W> {
    /// `what` is the text of an error; `renderer` gets the writer that it renders into.
    pub(crate) fn new(
        out: W,
        what: String,
        renderer: impl FnOnce(BufWriter<RenderedText>) -> Box<dyn EventSink + Send>,
    ) -> Self {
        let text = RenderedText::default();
        Self {
            out,
            renderer: renderer(BufWriter::new(RenderedText(Arc::clone(&text.0)))),
            text,
            ends: VecDeque::new(),
            written: Arc::default(),
            what,
        }
    }

    /// The number of lines that were written, which another thread may read while this one writes.
    pub(crate) fn written(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.written)
    }

    fn write_out(&mut self) -> io::Result<()> {
        let text = std::mem::take(&mut *self.text.lock());
        let mut done = 0;
        while done < text.len() {
            let rest = text.get(done..).unwrap_or_default();
            match self.out.write(rest.get(..PIECE).unwrap_or(rest)) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            let complete = self.ends.partition_point(|end| *end <= done);
            self.ends.drain(..complete);
            self.written.fetch_add(complete as u64, Relaxed);
        }
        // Lines without any text.
        self.written.fetch_add(self.ends.len() as u64, Relaxed);
        self.ends.clear();
        self.out.flush()
    }
}

impl<W: Write> EventSink for Stream<W> {
    fn line(&mut self, line: &Line) -> io::Result<()> {
        self.renderer.line(line)?;
        self.renderer.flush()?;
        let end = self.text.lock().len();
        self.ends.push_back(end);
        if end >= BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.write_out().map_err(|source| match source.kind() {
            // No error: the reader wants no more.
            io::ErrorKind::BrokenPipe => source,
            _ => io::Error::other(StreamError { what: self.what.clone(), source }),
        })
    }
}

/// What a renderer has written.
#[derive(Debug, Default)]
pub(crate) struct RenderedText(Arc<Mutex<Vec<u8>>>);

impl RenderedText {
    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        // No code that holds the lock panics.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for RenderedText {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use stable_trace_analysis::{
        event::{Event, Lost},
        sink::json::JsonSink,
        units::Timestamp,
    };

    use super::*;

    /// Takes so many bytes in all, and then fails.
    struct Limited {
        room: usize,
        bytes: Vec<u8>,
    }

    impl Write for &mut Limited {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            assert!(bytes.len() <= PIECE);
            let count = bytes.len().min(self.room - self.bytes.len());
            self.bytes.extend_from_slice(&bytes[..count]);
            if count == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(count) }
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_lines_that_were_written_completely_are_counted() {
        for room in [0, 1, 99, 4096, 50_000, 70_123, 1 << 20] {
            let mut out = Limited { room, bytes: Vec::new() };
            let json = |text| Box::new(JsonSink::new(text)) as Box<dyn EventSink + Send>;
            let mut stream = Stream::new(&mut out, "cannot write the test".to_owned(), json);
            let written = stream.written();
            let mut each = (1..1_000).map(|seq: u64| {
                let lost = Lost { count: seq * seq * seq, ..Lost::default() };
                let time = Timestamp::default();
                let line = Line { seq, time, monotonic_ns: None, event: Event::Lost(lost) };
                stream.line(&line)
            });
            let outcome = each.try_for_each(|outcome| outcome);
            let outcome = outcome.and_then(|()| stream.flush());
            drop(stream);
            let lines = out.bytes.split(|byte| *byte == b'\n').skip(1).count() as u64;
            match outcome {
                Ok(()) => assert_eq!(lines, 999),
                Err(error) => {
                    assert!(error.to_string().contains("cannot write the test"), "{error}");
                }
            }
            assert_eq!(written.load(Relaxed), lines, "room {room}");
        }
    }
}
