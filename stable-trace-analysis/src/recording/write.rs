//! Writes a recording as the run goes on.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use super::{
    cut::{CutFile, complete_lines, without_last_line, write_counted},
    line::{Parsed, parse},
    zstd,
};
use crate::{
    error_chain::ErrorChain,
    event::{Event, Line, Lost, Output},
    sink::EventSink,
    units::Timestamp,
};

/// Bytes that are buffered before they are written without a flush.
const BUFFER_BYTES: usize = 256 << 10;
/// The same for a compressed recording: large frames compress better.
const FRAME_BYTES: usize = 1 << 20;
/// The longest time that a flushed line waits for its frame to be closed.
const FRAME_INTERVAL: Duration = Duration::from_secs(1);

/// Lines that have room for the mark of a cut, and one more.
const TAIL_LINES: usize = 3;

/// A recording cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the recording {} (--record)", path.display())]
struct WriteError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// When a line was written, and which one it was.
#[derive(Clone, Copy)]
struct Head {
    seq: u64,
    time: Timestamp,
    monotonic_ns: Option<u64>,
}

impl Head {
    const fn of(line: &Line) -> Self {
        Self { seq: line.seq, time: line.time, monotonic_ns: line.monotonic_ns }
    }

    /// The line behind this one that tells that the recording is cut.
    const fn cut_mark(self) -> Line {
        let Self { seq, time, monotonic_ns } = self;
        let lost = Lost {
            count: 0,
            since_seq: seq,
            within_ns: None,
            unseen: 0,
            output: Some(Output::Recording),
            ended: true,
        };
        Line { seq: seq.saturating_add(1), time, monotonic_ns, event: Event::Lost(lost) }
    }
}

/// Writes a recording, in complete lines, so that a concurrent reader never sees part of one. After a failure, as on a
/// full disk, the file ends behind its last complete line, with a line that tells that it is cut.
pub struct Recorder<W: CutFile> {
    out: W,
    path: PathBuf,
    compressed: bool,
    buffer: Vec<u8>,
    last_written: Instant,
    /// The last line in the buffer.
    last: Option<Head>,
    /// The last line in a compressed file.
    last_in_file: Option<Head>,
    /// The last lines in a file that is not compressed, which may have to make room for a mark.
    tail: Vec<u8>,
    /// Lines in the buffer.
    buffered: u64,
    /// Lines in the file.
    written: Arc<AtomicU64>,
    /// Bytes in the file.
    length: u64,
    /// Whether writing failed. Nothing more is written then.
    failed: bool,
    ended: bool,
}

impl Recorder<File> {
    /// Creates or truncates the file. Compresses if its name ends in `.zst`.
    pub fn create(path: &Path) -> io::Result<Self> {
        let compressed = path.extension().is_some_and(|extension| extension == "zst");
        Ok(Self::new(File::create(path)?, path, compressed))
    }
}

impl<W: CutFile> Recorder<W> {
    /// Writes to `out`. `path` appears in errors.
    pub fn new(out: W, path: &Path, compressed: bool) -> Self {
        Self {
            out,
            path: path.to_owned(),
            compressed,
            buffer: Vec::new(),
            last_written: Instant::now(),
            last: None,
            last_in_file: None,
            tail: Vec::new(),
            buffered: 0,
            written: Arc::default(),
            length: 0,
            failed: false,
            ended: false,
        }
    }

    /// The number of lines in the file, which another thread may read while this one writes.
    pub fn written(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.written)
    }

    fn write_out(&mut self) -> io::Result<()> {
        self.last_written = Instant::now();
        if self.buffer.is_empty() || self.failed {
            return Ok(());
        }
        let mut text = std::mem::take(&mut self.buffer);
        let buffered = std::mem::take(&mut self.buffered);
        let frame = self.compressed.then(|| zstd::compress_frame(&text));
        let bytes = frame.as_deref().unwrap_or(&text);
        let mut done = 0;
        if let Err(source) = write_counted(&mut self.out, bytes, &mut done) {
            self.failed = true;
            // Part of a frame cannot be read.
            let taken = if self.compressed { &[] } else { text.get(..done).unwrap_or_default() };
            if let Err(error) = self.cut_behind(taken) {
                log::debug!("cannot mark the recording as cut: {}", ErrorChain(&error));
            }
            // Never `BrokenPipe`, which ends a stream without an error.
            return Err(io::Error::other(WriteError { path: self.path.clone(), source }));
        }
        self.length += bytes.len() as u64;
        if self.compressed {
            self.last_in_file = self.last;
        } else {
            let others = (0..TAIL_LINES).fold(text.as_slice(), |rest, _| without_last_line(rest));
            self.tail = text.get(others.len()..).unwrap_or_default().to_owned();
        }
        self.written.fetch_add(buffered, Relaxed);
        // The allocation is used again.
        text.clear();
        self.buffer = text;
        Ok(())
    }

    /// Ends the file behind its last complete line, and marks it as cut. If there is too little room, the last lines
    /// make some. `added`: what the failed write has added.
    fn cut_behind(&mut self, added: &[u8]) -> io::Result<()> {
        let tail = std::mem::take(&mut self.tail);
        let length = self.length - tail.len() as u64;
        let lines = self.written.load(Relaxed) - count_lines(&tail);
        let all = [tail.as_slice(), added].concat();
        let mut kept = complete_lines(&all);
        let complete = kept;
        loop {
            self.out.cut(length + kept.len() as u64)?;
            self.written.store(lines + count_lines(kept), Relaxed);
            match self.mark(kept) {
                Ok(()) => return Ok(()),
                Err(_) if !kept.is_empty() => kept = without_last_line(kept),
                Err(error) => {
                    // There is no room at all: every line is worth more than a mark.
                    self.out.cut(length)?;
                    write_counted(&mut self.out, complete, &mut 0)?;
                    self.written.store(lines + count_lines(complete), Relaxed);
                    return Err(error);
                }
            }
        }
    }

    /// Writes the line that tells that the recording is cut. `tail`: the last lines.
    fn mark(&mut self, tail: &[u8]) -> io::Result<()> {
        let last =
            tail.strip_suffix(b"\n").and_then(|text| text.rsplit(|byte| *byte == b'\n').next());
        let head = match last.map(parse) {
            Some(Ok(Parsed::Line(line))) => Some(Head::of(&line)),
            _ => self.last_in_file,
        };
        let Some(head) = head else { return Err(io::ErrorKind::StorageFull.into()) };
        let mut text = serde_json::to_vec(&head.cut_mark()).map_err(io::Error::from)?;
        text.push(b'\n');
        let text = if self.compressed { zstd::compress_frame(&text) } else { text };
        write_counted(&mut self.out, &text, &mut 0)
    }
}

fn count_lines(text: &[u8]) -> u64 {
    text.split(|byte| *byte == b'\n').skip(1).count() as u64
}

impl<W: CutFile> EventSink for Recorder<W> {
    fn line(&mut self, line: &Line) -> io::Result<()> {
        if self.failed {
            return Ok(());
        }
        serde_json::to_writer(&mut self.buffer, line).map_err(io::Error::from)?;
        self.buffer.push(b'\n');
        self.buffered += 1;
        self.last = Some(Head::of(line));
        self.ended |= matches!(line.event, Event::Summary(_));
        let limit = if self.compressed { FRAME_BYTES } else { BUFFER_BYTES };
        if self.buffer.len() >= limit { self.write_out() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.compressed || self.ended || self.last_written.elapsed() >= FRAME_INTERVAL {
            self.write_out()
        } else {
            Ok(())
        }
    }
}

/// Writes the buffered lines of a run that ends early.
impl<W: CutFile> Drop for Recorder<W> {
    fn drop(&mut self) {
        if let Err(error) = self.write_out() {
            log::warn!("{}", ErrorChain(&error));
        }
    }
}

#[cfg(test)]
mod tests;
