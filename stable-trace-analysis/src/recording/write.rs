//! Writing a recording while it happens.

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::zstd;
use crate::{
    event::{Event, Line},
    sink::EventSink,
};

/// Text that is kept before it is written without being asked to.
const PENDING: usize = 256 << 10;
/// The same where it is compressed: a frame of much text is smaller than the frames of its parts.
const PENDING_FRAME: usize = 1 << 20;
/// How long text may wait for its frame.
const FRAME_EVERY: Duration = Duration::from_secs(1);

/// Writes a recording: whole lines at a time, so that whoever reads it meanwhile sees no part of one.
pub struct Recorder<W: Write> {
    out: W,
    /// What errors name.
    path: PathBuf,
    compressed: bool,
    pending: Vec<u8>,
    framed: Instant,
    ended: bool,
}

impl Recorder<File> {
    /// Makes the file, or empties it. Compresses if its name ends in `.zst`.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn create(path: &Path) -> io::Result<Self> {
        let compressed = path.extension().is_some_and(|ending| ending == "zst");
        Ok(Self::new(File::create(path)?, path, compressed))
    }
}

impl<W: Write> Recorder<W> {
    /// Writes to `out`; `path` is what errors name.
    pub fn new(out: W, path: &Path, compressed: bool) -> Self {
        let path = path.to_owned();
        Self { out, path, compressed, pending: Vec::new(), framed: Instant::now(), ended: false }
    }

    fn write_out(&mut self) -> io::Result<()> {
        self.framed = Instant::now();
        if self.pending.is_empty() {
            return Ok(());
        }
        let written = if self.compressed {
            self.out.write_all(&zstd::frame(&self.pending))
        } else {
            self.out.write_all(&self.pending)
        };
        // Not again, whatever came of it: part of it may be in the file.
        self.pending.clear();
        // Of a kind of its own: a pipe that nobody reads ends a stream, but a recording is lost.
        written
            .and_then(|()| self.out.flush())
            .map_err(|error| io::Error::other(format!("--record {}: {error}", self.path.display())))
    }
}

impl<W: Write> EventSink for Recorder<W> {
    fn line(&mut self, line: &Line) -> io::Result<()> {
        serde_json::to_writer(&mut self.pending, line).map_err(io::Error::from)?;
        self.pending.push(b'\n');
        self.ended |= matches!(line.event, Event::Summary(_));
        let most = if self.compressed { PENDING_FRAME } else { PENDING };
        if self.pending.len() >= most { self.write_out() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.compressed || self.ended || self.framed.elapsed() >= FRAME_EVERY {
            self.write_out()
        } else {
            Ok(())
        }
    }
}

/// A run that ends early leaves what it had.
impl<W: Write> Drop for Recorder<W> {
    fn drop(&mut self) {
        if let Err(error) = self.write_out() {
            log::warn!("{error}");
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
        Line { seq, time: "2026-01-02T03:04:05.000000006Z".parse().unwrap(), event }
    }

    fn lost(seq: u64) -> Line {
        line(seq, Event::Lost(Lost { count: 1, since_seq: seq, within_ns: None }))
    }

    #[test]
    fn a_flush_leaves_whole_lines() {
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
    fn the_last_line_closes_its_frame_at_once() {
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
    fn a_recording_that_cannot_be_written_is_named() {
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
        assert_ne!(error.kind(), io::ErrorKind::BrokenPipe, "that would pass for a reader's leave");
    }
}
