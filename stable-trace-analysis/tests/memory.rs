//! Memory of the correlation engine, on a worst-case stream and on a typical one. This is a
//! separate test program because the allocator counts for the whole process.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests fail by panicking, and clippy sees no test in their shared functions"
)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, UNIX_EPOCH},
};

use stable_trace_analysis::{
    correlate::{engine::Engine, verdict::Limits},
    event::{Event, IntegrityError, Line, Stall, UnstableWrite},
};

/// The documented limit of the verdicts' memory, plus that of the associations.
const LIMIT: usize = (112 + 4) << 20;

struct CountingAllocator;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: passes every call unchanged to the system's allocator.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let allocated = ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(allocated, Ordering::Relaxed);
        // SAFETY: the caller upholds the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller upholds the contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Parses an event.
fn event(fields: &str) -> Event {
    serde_json::from_str(&format!("{{{fields}}}")).unwrap()
}

fn line(seq: u64, us: u64, event: Event) -> Line {
    let time = UNIX_EPOCH + Duration::from_hours(490_896) + Duration::from_micros(us);
    Line { seq, time: time.into(), monotonic_ns: None, event }
}

const WRITER: &str = r#""context": "write_begin", "function": "f", "pid": 1, "tid": 1, "comm": "w",
    "cgroup_id": 1, "device": "sda1", "dev": "8:1", "fs": "ext4", "ino": 7, "index": 0"#;

/// A stall, an unstable write, and an integrity error with this number of pages.
fn templates(pages: u64) -> (Stall, UnstableWrite, IntegrityError) {
    let pages: Vec<_> = (0..pages)
        .map(|index| {
            format!(
                r#"{{"kind": "file", "ino": 7, "index": {index}, "device": "sda1", "dev": "8:1",
                "fs": "ext4", "stable": false}}"#
            )
        })
        .collect();
    let error = format!(
        r#""type": "integrity", "op": "write", "device": "sda", "dev": "8:0", "sector": 0,
        "sectors": 8, "check": "guard", "source": "scsi", "status": "EILSEQ", "pages": [{}],
        "path": "{}""#,
        pages.join(","),
        "p".repeat(300)
    );
    let stall = format!(r#""type": "stall", "duration_ns": 2000000, {WRITER}"#);
    let rewrite = format!(r#""type": "unstable_write", "grade": "hole", {WRITER}"#);
    match (event(&stall), event(&rewrite), event(&error)) {
        (Event::Stall(stall), Event::UnstableWrite(rewrite), Event::Integrity(error)) => {
            (stall, rewrite, error)
        }
        other => panic!("{other:?}"),
    }
}

/// Feeds lines to an engine. Returns the engine's peak memory in bytes and the number of verdicts.
fn feed(count: u64, make: impl Fn(u64) -> Line) -> (usize, u64) {
    let before = ALLOCATED.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let mut engine = Engine::new(Limits::default());
    let mut verdicts = 0;
    for seq in 1..=count {
        let line = make(seq);
        verdicts += engine.observe(&line).len() as u64;
    }
    let peak = PEAK.load(Ordering::Relaxed) - before;
    (peak, verdicts + engine.finish().len() as u64)
}

/// Each event has a different file, page and sector; all are within one window, and there are more
/// than the engine keeps.
fn worst_case() {
    let (stall, rewrite, error) = templates(40);
    let (peak, verdicts) = feed(240_000, |seq| {
        let event = match seq % 3 {
            0 => Event::Stall(Stall {
                ino: Some(seq),
                index: seq,
                duration_ns: seq << 16,
                ..stall.clone()
            }),
            1 => Event::UnstableWrite(UnstableWrite {
                ino: Some(seq),
                index: seq,
                ..rewrite.clone()
            }),
            _ => Event::Integrity(IntegrityError { sector: Some(seq), ..error.clone() }),
        };
        line(seq, seq * 5, event)
    });
    println!("worst-case stream: {} KiB of {} KiB", peak >> 10, LIMIT >> 10);
    assert!(peak <= LIMIT, "{peak} bytes");
    assert!(peak >= 32 << 20, "{peak} bytes: this is no longer the worst case");
    assert_eq!(verdicts, 80_000, "each error has its verdict");
}

/// Ten thousand events a second on one file; one of a hundred is an error.
fn typical() {
    let (stall, rewrite, error) = templates(1);
    let (peak, verdicts) = feed(150_000, |seq| {
        let index = seq % 16;
        let event = match seq % 100 {
            0 => Event::Integrity(IntegrityError { sector: Some(seq % 128), ..error.clone() }),
            odd if odd % 2 == 1 => Event::Stall(Stall { index, ..stall.clone() }),
            _ => Event::UnstableWrite(UnstableWrite { index, ..rewrite.clone() }),
        };
        line(seq, seq * 100, event)
    });
    println!("typical stream: {} KiB", peak >> 10);
    assert!(peak <= 20 << 20, "{peak} bytes");
    assert_eq!(verdicts, 1_500);
}

#[test]
fn the_engine_stays_within_its_memory_limit() {
    worst_case();
    typical();
}
