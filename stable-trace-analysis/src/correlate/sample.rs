//! Lines for tests: whole ones, with what a test cares for named.

use crate::{
    event::{
        Check, Context, Device, Event, Grade, Group, IntegrityError, Line, Lost, Method, Operation,
        Page, PageKind, Probe, Protection, Source, Stall, Start, UnstableWrite, Workload,
        WorkloadState,
    },
    units::{DeviceId, Timestamp},
};

/// Microseconds after the start of the sample's day to a line's time.
pub fn time(us: u64) -> Timestamp {
    Timestamp::from_unix_ns(ns(us))
}

/// The same in ns since 1970.
pub fn ns(us: u64) -> u64 {
    1_767_225_600_000_000_000 + us * 1_000
}

/// A line.
pub fn line(seq: u64, us: u64, event: Event) -> Line {
    Line { seq, time: time(us), event }
}

/// Two disks with protection information, `sda` that asks for stable pages and `sdb` that does
/// not, a loop device over `sda`, and every probe that sees writers.
pub fn start() -> Event {
    let device = |device: &str, dev, stable_writes, checks| Device {
        device: device.to_owned(),
        dev,
        stable_writes,
        integrity: bool::then(checks, || Protection {
            format: "T10-DIF-TYPE1-CRC".to_owned(),
            tag_size: 2,
            interval_bytes: Some(512),
        }),
    };
    let probe = |group, function: &str| Probe {
        group,
        function: function.to_owned(),
        method: Method::Kprobe,
        attached: true,
        reason: None,
    };
    Event::Start(Start {
        probes: vec![
            probe(Group::WriteBegin, "block_write_end"),
            probe(Group::PageMkwrite, "do_page_mkwrite"),
        ],
        devices: vec![
            device("sda", DeviceId::new(8, 0), true, true),
            device("sdb", DeviceId::new(8, 16), false, true),
            device("loop0", DeviceId::new(7, 0), false, false),
        ],
        ..Start::default()
    })
}

/// A page of an inode on a device.
pub type At<'a> = (&'a str, u64, u64);

fn dev(device: &str) -> Option<DeviceId> {
    let (major, minor) = match device {
        "sda" => (8, 0),
        "sda1" => (8, 1),
        "sdb" => (8, 16),
        "loop0" => (7, 0),
        _ => return None,
    };
    Some(DeviceId::new(major, minor))
}

/// A stall that ends.
pub fn stall((device, ino, index): At<'_>, duration_us: u64) -> Event {
    Event::Stall(Stall {
        context: Context::WriteBegin,
        function: "folio_wait_stable".to_owned(),
        duration_ns: duration_us * 1_000,
        pid: 100,
        tid: 101,
        comm: "writer".to_owned(),
        cgroup_id: 1,
        device: Some(device.to_owned()),
        dev: dev(device),
        fs: Some("ext4".to_owned()),
        ino,
        index,
        path: None,
        stack: None,
    })
}

/// A rewrite under writeback, by a `write` or by a store to mapped memory.
pub fn rewrite((device, ino, index): At<'_>, context: Context) -> Event {
    Event::UnstableWrite(UnstableWrite {
        context,
        grade: Grade::Hole,
        function: "block_write_end".to_owned(),
        pid: 100,
        tid: 101,
        comm: "writer".to_owned(),
        cgroup_id: 1,
        device: Some(device.to_owned()),
        dev: dev(device),
        fs: Some("ext4".to_owned()),
        ino,
        index,
        path: None,
        stack: None,
    })
}

/// A page of a file, and what its mapping said.
pub fn page((device, ino, index): At<'_>, stable: Option<bool>) -> Page {
    Page {
        kind: PageKind::File,
        ino: Some(ino),
        index: Some(index),
        device: Some(device.to_owned()),
        dev: dev(device),
        fs: Some("ext4".to_owned()),
        stable,
    }
}

/// A page of a process.
pub const ANONYMOUS: Page = Page {
    kind: PageKind::Anonymous,
    ino: None,
    index: None,
    device: None,
    dev: None,
    fs: None,
    stable: None,
};

/// A page of nobody knows whom.
pub const UNKNOWN: Page = Page { kind: PageKind::Unknown, ..ANONYMOUS };

/// A write to `device` of these pages that failed its guard check.
pub fn failure(device: &str, sector: u64, pages: Vec<Page>) -> IntegrityError {
    IntegrityError {
        op: Operation::Write,
        device: Some(device.to_owned()),
        dev: dev(device),
        sector,
        sectors: 8,
        check: Check::Guard,
        source: Source::Scsi,
        status: "EILSEQ".to_owned(),
        pages,
        pages_total: None,
        fs: None,
        path: None,
        pid: None,
        tid: None,
        comm: None,
    }
}

/// Lost lines.
pub fn lost(count: u64) -> Event {
    Event::Lost(Lost { count, since_seq: 0, within_ns: Some(50_000_000) })
}

/// The workload's word that this many of its calls failed with `EILSEQ` so far.
pub fn workload(failed: u64) -> Event {
    Event::Workload(Workload {
        state: WorkloadState::Progress,
        profile: "a".to_owned(),
        threads: 2,
        file_size: 65_536,
        operations: 1_000,
        bytes: 4_096_000,
        errors: [("EILSEQ".to_owned(), failed)].into(),
        ..Workload::default()
    })
}
