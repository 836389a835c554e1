//! Sample lines for tests. The parameters are the fields that tests vary.

use crate::{
    event::{
        Check, Context, Device, Event, Grade, Group, IntegrityError, Line, Lost, Method, Operation,
        Page, PageKind, Probe, Protection, Source, Stall, Start, UnstableWrite, Workload,
        WorkloadState,
    },
    units::{DeviceId, Timestamp},
};

/// A time in microseconds after the start of the sample day.
pub(crate) fn time(us: u64) -> Timestamp {
    Timestamp::from_unix_ns(ns(us))
}

/// The same time in ns since 1970.
pub(crate) fn ns(us: u64) -> u64 {
    1_767_225_600_000_000_000 + us * 1_000
}

pub(crate) fn line(seq: u64, us: u64, event: Event) -> Line {
    Line { seq, time: time(us), monotonic_ns: None, event }
}

/// A start line with all probes that see writers, two disks with protection information, and a loop
/// device on `sda`. Of these only `sda` requires stable pages.
pub(crate) fn start() -> Event {
    let device = |device: &str, dev, stable_writes, checks: bool| Device {
        device: device.to_owned(),
        dev,
        stable_writes,
        integrity: checks.then(|| Protection {
            format: "T10-DIF-TYPE1-CRC".to_owned(),
            tag_size: 2,
            interval_bytes: Some(512),
        }),
        risk: None,
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

/// Device, inode and index of a page.
pub(crate) type At<'a> = (&'a str, u64, u64);

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

pub(crate) fn stall((device, ino, index): At<'_>, duration_us: u64) -> Event {
    Event::Stall(Stall {
        context: Context::WriteBegin,
        function: "folio_wait_stable".into(),
        duration_ns: duration_us * 1_000,
        pid: 100,
        tid: 101,
        comm: "writer".into(),
        process: None,
        cgroup_id: Some(1),
        cgroup: None,
        container: None,
        device: Some(device.into()),
        dev: dev(device),
        fs: Some("ext4".into()),
        server_pid: None,
        subvolume_dev: None,
        ino: Some(ino),
        index,
        path: None,
        path_from: None,
        stack: None,
    })
}

/// A rewrite under writeback: a `write`, or a store to mapped memory.
pub(crate) fn rewrite((device, ino, index): At<'_>, context: Context) -> Event {
    Event::UnstableWrite(UnstableWrite {
        context,
        grade: Grade::Hole,
        risk: None,
        function: "block_write_end".into(),
        pid: 100,
        tid: 101,
        comm: "writer".into(),
        process: None,
        cgroup_id: Some(1),
        cgroup: None,
        container: None,
        device: Some(device.into()),
        dev: dev(device),
        fs: Some("ext4".into()),
        subvolume_dev: None,
        ino: Some(ino),
        index,
        path: None,
        path_from: None,
        stack: None,
    })
}

/// A page of a file. `stable`: whether its mapping requires stable pages.
pub(crate) fn page((device, ino, index): At<'_>, stable: Option<bool>) -> Page {
    Page {
        kind: PageKind::File,
        subvolume_dev: None,
        ino: Some(ino),
        index: Some(index),
        device: Some(device.to_owned()),
        dev: dev(device),
        fs: Some("ext4".to_owned()),
        stable,
    }
}

/// A page of a process.
pub(crate) const ANONYMOUS: Page = Page::without_file(PageKind::Anonymous);

/// A page without a known owner.
pub(crate) const UNKNOWN: Page = Page::without_file(PageKind::Unknown);

/// A write of these pages to `device` that failed its guard check.
pub(crate) fn failure(device: &str, sector: u64, pages: Vec<Page>) -> IntegrityError {
    IntegrityError {
        op: Operation::Write,
        device: Some(device.to_owned()),
        dev: dev(device),
        sector: Some(sector),
        sectors: 8,
        check: Check::Guard,
        source: Source::Scsi,
        began_ns_before: Some(20_000_000),
        proof: None,
        status: "EILSEQ".to_owned(),
        pages,
        pages_total: None,
        fs: None,
        path: None,
        path_from: None,
        pid: None,
        tid: None,
        comm: None,
    }
}

pub(crate) fn lost(count: u64) -> Event {
    Event::Lost(Lost { count, within_ns: Some(50_000_000), ..Lost::default() })
}

/// A workload line with this many calls that failed with `EILSEQ` so far.
pub(crate) fn workload(failed: u64) -> Event {
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
