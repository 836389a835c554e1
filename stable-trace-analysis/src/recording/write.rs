//! Writes a recording as the run goes on.

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::zstd;
use crate::{
    error_chain::ErrorChain,
    event::{Event, Line},
    sink::EventSink,
};

/// Bytes that are buffered before they are written without a flush.
const BUFFER_BYTES: usize = 256 << 10;
/// The same for a compressed recording: large frames compress better.
const FRAME_BYTES: usize = 1 << 20;
/// The longest time that a flushed line waits for its frame to be closed.
const FRAME_INTERVAL: Duration = Duration::from_secs(1);

/// A recording cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the recording {} (--record)", path.display())]
struct WriteError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Writes a recording, in complete lines, so that a concurrent reader never sees part of one.
pub struct Recorder<W: Write> {
    out: W,
    path: PathBuf,
    compressed: bool,
    buffer: Vec<u8>,
    last_written: Instant,
    ended: bool,
}

impl Recorder<File> {
    /// Creates or truncates the file. Compresses if its name ends in `.zst`.
    pub fn create(path: &Path) -> io::Result<Self> {
        let compressed = path.extension().is_some_and(|extension| extension == "zst");
        Ok(Self::new(File::create(path)?, path, compressed))
    }
}

impl<W: Write> Recorder<W> {
    /// Writes to `out`. `path` appears in errors.
    pub fn new(out: W, path: &Path, compressed: bool) -> Self {
        Self {
            out,
            path: path.to_owned(),
            compressed,
            buffer: Vec::new(),
            last_written: Instant::now(),
            ended: false,
        }
    }

    fn write_out(&mut self) -> io::Result<()> {
        self.last_written = Instant::now();
        if self.buffer.is_empty() {
            return Ok(());
        }
        let written = if self.compressed {
            self.out.write_all(&zstd::compress_frame(&self.buffer))
        } else {
            self.out.write_all(&self.buffer)
        };
        // Also after a failure, because part of it may be in the file.
        self.buffer.clear();
        // Never `BrokenPipe`, which ends a stream without an error.
        written
            .and_then(|()| self.out.flush())
            .map_err(|source| io::Error::other(WriteError { path: self.path.clone(), source }))
    }
}

impl<W: Write> EventSink for Recorder<W> {
    fn line(&mut self, line: &Line) -> io::Result<()> {
        serde_json::to_writer(&mut self.buffer, line).map_err(io::Error::from)?;
        self.buffer.push(b'\n');
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
impl<W: Write> Drop for Recorder<W> {
    fn drop(&mut self) {
        if let Err(error) = self.write_out() {
            log::warn!("{}", ErrorChain(&error));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event::{Lost, Summary},
        recording::Reader,
    };

    fn line(seq: u64, event: Event) -> Line {
        Line {
            seq,
            time: "2026-01-02T03:04:05.000000006Z".parse().unwrap(),
            monotonic_ns: None,
            event,
        }
    }

    fn lost(seq: u64) -> Line {
        line(seq, Event::Lost(Lost { count: 1, since_seq: seq, within_ns: None, unseen: 0 }))
    }

    #[test]
    fn a_flush_writes_complete_lines() {
        let mut out = Vec::new();
        let mut recorder = Recorder::new(&mut out, Path::new("r"), false);
        recorder.line(&lost(1)).unwrap();
        recorder.line(&lost(2)).unwrap();
        recorder.flush().unwrap();
        drop(recorder);
        let lines: Vec<Line> = out
            .split(|byte| *byte == b'\n')
            .filter_map(|l| serde_json::from_slice(l).ok())
            .collect();
        assert_eq!(lines, [lost(1), lost(2)]);
        assert!(out.ends_with(b"\n"));
    }

    #[test]
    fn the_summary_closes_its_frame_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.jsonl.zst");
        let mut recorder = Recorder::create(&path).unwrap();
        let end = line(2, Event::Summary(Summary::default()));
        recorder.line(&line(1, Event::Start(crate::event::Start::default()))).unwrap();
        recorder.line(&end).unwrap();
        recorder.flush().unwrap();
        let reader = Reader::new(crate::recording::open(&path, None).unwrap());
        let lines: Vec<_> = reader.map(Result::unwrap).collect();
        assert_eq!(lines.last(), Some(&end));
        drop(recorder);
    }

    #[test]
    fn a_recording_that_cannot_be_written_is_named_in_the_error() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut recorder = Recorder::new(Full, Path::new("full.jsonl"), false);
        recorder.line(&lost(1)).unwrap();
        let error = recorder.flush().unwrap_err();
        assert!(error.to_string().contains("full.jsonl"), "{error}");
        assert_ne!(error.kind(), io::ErrorKind::BrokenPipe, "taken for a closed output");
    }
}
