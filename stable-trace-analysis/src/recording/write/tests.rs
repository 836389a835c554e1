//! Recordings of complete runs, and of runs whose disk is full.

use std::io::Write;

use super::*;
use crate::{
    event::{Start, Summary},
    recording::{ReadError, Reader},
};

fn line(seq: u64, event: Event) -> Line {
    Line { seq, time: "2026-01-02T03:04:05.000000006Z".parse().unwrap(), monotonic_ns: None, event }
}

fn start() -> Line {
    line(1, Event::Start(Start::default()))
}

fn lost(seq: u64) -> Line {
    line(seq, Event::Lost(Lost { count: 1, since_seq: seq, ..Lost::default() }))
}

/// A file on a disk with room for so many bytes.
struct Disk {
    room: usize,
    bytes: Vec<u8>,
}

impl Write for &mut Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let free = self.room - self.bytes.len();
        if free == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let taken = bytes.len().min(free);
        self.bytes.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl CutFile for &mut Disk {
    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.bytes.truncate(usize::try_from(length).unwrap());
        Ok(())
    }
}

fn read(bytes: &[u8]) -> (Vec<Line>, Vec<ReadError>) {
    let (mut lines, mut errors) = (Vec::new(), Vec::new());
    let decompressed;
    let text = if bytes.starts_with(&zstd::MAGIC) {
        let mut reader = zstd::FrameReader::new(bytes);
        let mut text = Vec::new();
        io::Read::read_to_end(&mut reader, &mut text).unwrap();
        decompressed = text;
        &decompressed
    } else {
        bytes
    };
    for item in Reader::new(text) {
        match item {
            Ok(line) => lines.push(line),
            Err(error) => errors.push(error),
        }
    }
    (lines, errors)
}

#[test]
fn a_flush_writes_complete_lines() {
    let mut disk = Disk { room: 1 << 20, bytes: Vec::new() };
    let mut recorder = Recorder::new(&mut disk, Path::new("r"), false);
    let written = recorder.written();
    recorder.line(&lost(1)).unwrap();
    recorder.line(&lost(2)).unwrap();
    assert_eq!(written.load(Relaxed), 0);
    recorder.flush().unwrap();
    assert_eq!(written.load(Relaxed), 2);
    drop(recorder);
    let lines: Vec<Line> = disk
        .bytes
        .split(|byte| *byte == b'\n')
        .filter_map(|l| serde_json::from_slice(l).ok())
        .collect();
    assert_eq!(lines, [lost(1), lost(2)]);
    assert!(disk.bytes.ends_with(b"\n"));
}

#[test]
fn the_summary_closes_its_frame_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.jsonl.zst");
    let mut recorder = Recorder::create(&path).unwrap();
    let end = line(2, Event::Summary(Summary::default()));
    recorder.line(&start()).unwrap();
    recorder.line(&end).unwrap();
    recorder.flush().unwrap();
    let reader = Reader::new(crate::recording::open(&path, None).unwrap());
    let lines: Vec<_> = reader.map(Result::unwrap).collect();
    assert_eq!(lines.last(), Some(&end));
    drop(recorder);
}

/// Wherever the disk is full, what is in the file can be read, is counted, and is marked as cut.
#[test]
fn a_recording_on_a_full_disk_ends_behind_a_complete_line() {
    let mark = serde_json::to_string(&Head::of(&lost(99)).cut_mark()).unwrap().len() + 1;
    let first = serde_json::to_string(&start()).unwrap().len() + 1;
    for compressed in [false, true] {
        for room in 1..3_000 {
            let mut disk = Disk { room, bytes: Vec::new() };
            let mut recorder = Recorder::new(&mut disk, Path::new("full.jsonl"), compressed);
            let written = recorder.written();
            let mut error = None;
            recorder.line(&start()).unwrap();
            for seq in 2..60 {
                recorder.line(&lost(seq)).unwrap();
                // Every seventh time, so that several lines are in the buffer.
                if seq % 7 == 0 {
                    let outcome = if compressed { recorder.write_out() } else { recorder.flush() };
                    error = error.or(outcome.err());
                }
            }
            drop(recorder);
            let Some(error) = error else { continue };
            assert!(error.to_string().contains("full.jsonl"), "{error}");
            assert_ne!(error.kind(), io::ErrorKind::BrokenPipe, "taken for a closed output");
            let (mut lines, errors) = read(&disk.bytes);
            let is_mark =
                |line: &Line| matches!(&line.event, Event::Lost(lost) if lost.cuts_recording());
            let marked = lines.pop_if(|line| is_mark(line)).is_some();
            assert_eq!(lines.len() as u64, written.load(Relaxed), "room {room}");
            assert!(lines.iter().map(|line| line.seq).eq(1..=lines.len() as u64), "room {room}");
            assert_eq!(errors.len(), 1, "room {room}: {errors:?}");
            // The last frame of a compressed recording is not opened again to make room.
            assert!(marked || compressed || room < first + mark, "room {room}: {lines:?}");
            if marked {
                assert!(matches!(errors[0], ReadError::Cut { .. }), "room {room}: {errors:?}");
            }
        }
    }
}
