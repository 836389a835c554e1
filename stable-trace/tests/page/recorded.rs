//! A recording with every kind of event, and with names that contain HTML.

use anyhow::Result;
use stable_trace_analysis::correlate::tally::Tally;
use stable_trace_analysis::event::{
    Cause, Check, Context, Device, Event, FORMAT, Grade, Group, IntegrityError, IntegritySummary,
    Line, Lost, Method, Operation, Page, PageKind, Probe, Protection, Risk, Source, Stall, Start,
    Summary, UnstableSummary, UnstableWrite, Verdict, VerdictSummary, Workload, WorkloadState,
};
use stable_trace_analysis::units::{DeviceId, Timestamp};
use stable_trace_common::histogram::Histogram;

/// A thread's name that is an HTML element unless it is escaped.
pub(crate) const HOSTILE: &str = "<img src=x>";

/// The number of integrity errors, each with a verdict.
pub(crate) const ERRORS: usize = 12;

/// 2026-01-02T03:00:00Z, in ns since 1970.
const BEGIN_NS: u64 = 1_767_322_800_000_000_000;

const STALLS: u64 = 4_000;

/// The lines of the recording.
pub(crate) fn text() -> Result<String> {
    let mut stream = Stream::default();
    stream.push(0, Event::Start(start()));
    stream.push(10, Event::Workload(workload(WorkloadState::Started, 0)));
    let mut tally = Tally::default();
    let mut failed = 0;
    for number in 0..STALLS {
        let ms = 20 + number * 15;
        let stall = stall(number);
        let mut one = Histogram::EMPTY;
        one.record(stall.duration_ns);
        let owned = |name: &Option<_>| name.clone().map(String::from);
        tally.add((stall.context, owned(&stall.device), owned(&stall.fs)), &one);
        stream.push(ms, Event::Stall(stall));
        if number % 333 == 300 {
            push_failure(&mut stream, ms, failed);
            failed += 1;
        }
        if number == 2_000 {
            let since_seq = stream.seq;
            stream.push(ms, Event::Lost(Lost { count: 77, since_seq, ..Lost::default() }));
        }
    }
    stream.push(60_100, Event::Workload(workload(WorkloadState::Finished, 123_456)));
    stream.push(60_200, Event::Summary(summary(&tally)));
    stream.text()
}

#[derive(Default)]
struct Stream {
    seq: u64,
    lines: Vec<Line>,
}

impl Stream {
    fn push(&mut self, ms: u64, event: Event) {
        self.seq += 1;
        let time = Timestamp::from_unix_ns(BEGIN_NS + ms * 1_000_000 + 6);
        self.lines.push(Line { seq: self.seq, time, monotonic_ns: None, event });
    }

    fn text(&self) -> Result<String> {
        let lines: Vec<_> =
            self.lines.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
        Ok(lines.join("\n") + "\n")
    }
}

/// Pushes an unstable write, an integrity error and the verdict.
fn push_failure(stream: &mut Stream, ms: u64, number: usize) {
    stream.push(ms, Event::UnstableWrite(unstable()));
    let writer = stream.seq;
    stream.push(ms + 1, Event::Integrity(error(number as u64)));
    let (cause, confidence, explanation) = match number % 4 {
        0 | 1 => (
            Cause::PageRewrittenInFlight,
            0.95,
            "The page was given to a writer while the disk read it, 1.0 ms before its guard check failed.",
        ),
        2 => (
            Cause::NoRewriteSeen,
            0.7,
            "The pages were stable and no task rewrote them: check the path and the medium.",
        ),
        _ => (Cause::Unknown, 0.2, "Events were lost just before, so the cause is unknown."),
    };
    let verdict = Verdict {
        integrity_seq: stream.seq,
        device: Some("sda".into()),
        cause,
        confidence,
        evidence: vec![writer],
        stalls_same_page: 1,
        stalls_same_file: 30,
        stalls_same_device: 60,
        explanation: explanation.into(),
        proof: None,
    };
    stream.push(ms + 2, Event::Verdict(verdict));
}

fn start() -> Start {
    let probe = |group, function: &str, reason: Option<&str>| Probe {
        group,
        function: function.into(),
        method: Method::Fentry,
        attached: reason.is_none(),
        reason: reason.map(str::to_owned),
    };
    Start {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").into(),
        kernel: "6.1.0".into(),
        arch: "x86_64".into(),
        hostname: "<script>alert(1)</script>".into(),
        preemption: None,
        min_latency_ns: Some(1_000_000),
        window_ns: Some(5_000_000_000),
        scope: None,
        filtered: false,
        only_devices: Vec::new(),
        metrics: None,
        probes: vec![
            probe(Group::WritebackWait, "folio_wait_writeback", None),
            probe(Group::Integrity, "bio_integrity_verify_fn", None),
            probe(
                Group::PageMkwrite,
                "a_function_with_a_name_that_is_as_long_as_such_names_can_be_and_longer",
                Some(
                    "the kernel refuses to load a program for fentry: EPERM, operation not permitted",
                ),
            ),
        ],
        devices: vec![Device {
            device: "sda".into(),
            dev: DeviceId::new(8, 0),
            stable_writes: true,
            integrity: Some(Protection {
                format: "T10-DIF-TYPE1-CRC".into(),
                tag_size: 2,
                interval_bytes: Some(512),
            }),
            risk: Some(Risk::ProtectionInformation),
        }],
    }
}

fn stall(number: u64) -> Stall {
    // From 1 ms up to a second, mostly short.
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    let duration_ns = 1_000_000 + (mixed * 40) * (1 + (number % 97 / 96) * 3);
    Stall {
        context: Context::ALL[usize::try_from(mixed % 3).unwrap_or(0)],
        function: "grab_cache_page_write_begin".into(),
        duration_ns,
        pid: 41,
        tid: 42 + u32::try_from(number % 7).unwrap_or(0),
        comm: format!("writer-{}", number % 7).into(),
        process: None,
        cgroup_id: Some(1),
        cgroup: None,
        container: None,
        device: Some("sda".into()),
        dev: Some(DeviceId::new(8, 0)),
        fs: Some("ext4".into()),
        server_pid: None,
        subvolume_dev: None,
        ino: Some(12 + number % 20),
        index: mixed % 16,
        path: (number % 20 == 3)
            .then(|| "/srv/a-folder-with-a-long-name-without-any-break/and-a-file-in-it.db".into()),
        path_from: None,
        stack: None,
    }
}

fn unstable() -> UnstableWrite {
    UnstableWrite {
        context: Context::WriteBegin,
        grade: Grade::Hole,
        risk: Some(Risk::ProtectionInformation),
        function: "generic_write_end".into(),
        pid: 41,
        tid: 42,
        comm: HOSTILE.into(),
        process: None,
        cgroup_id: Some(1),
        cgroup: None,
        container: None,
        device: Some("sda".into()),
        dev: Some(DeviceId::new(8, 0)),
        fs: Some("ext4".into()),
        subvolume_dev: None,
        ino: Some(12),
        index: 3,
        path: None,
        path_from: None,
        stack: None,
    }
}

fn error(number: u64) -> IntegrityError {
    let page = Page {
        kind: PageKind::File,
        subvolume_dev: None,
        ino: Some(12),
        index: Some(3),
        device: Some("sda".into()),
        dev: Some(DeviceId::new(8, 0)),
        fs: Some("ext4".into()),
        stable: Some(false),
    };
    IntegrityError {
        op: Operation::Write,
        device: Some("sda".into()),
        dev: Some(DeviceId::new(8, 0)),
        sector: Some(4096 + 8 * number),
        sectors: 8,
        check: Check::Guard,
        source: Source::Scsi,
        began_ns_before: None,
        proof: None,
        status: "EILSEQ".into(),
        pages: vec![page],
        pages_total: None,
        fs: Some("ext4".into()),
        path: None,
        path_from: None,
        pid: None,
        tid: None,
        comm: None,
    }
}

fn workload(state: WorkloadState, operations: u64) -> Workload {
    Workload {
        state,
        profile: "c".into(),
        threads: 64,
        file_size: 65_536,
        operations,
        bytes: operations * 4096,
        errors: [("EILSEQ".to_owned(), operations / 10_000)].into(),
        ..Workload::default()
    }
}

fn summary(tally: &Tally) -> Summary {
    let device = Some("sda".to_owned());
    let verdict = |cause, count| VerdictSummary { device: device.clone(), cause, count };
    Summary {
        elapsed_ns: 60_200_000_000,
        stalls: tally.summaries(),
        stalls_total: tally.total(),
        unstable_writes: vec![UnstableSummary {
            context: Context::WriteBegin,
            grade: Grade::Hole,
            device: device.clone(),
            fs: Some("ext4".into()),
            count: 12,
        }],
        integrity_errors: vec![IntegritySummary {
            device: device.clone(),
            op: Operation::Write,
            check: Check::Guard,
            source: Source::Scsi,
            count: ERRORS as u64,
        }],
        integrity_errors_total: ERRORS as u64,
        verdicts: vec![
            verdict(Cause::PageRewrittenInFlight, 6),
            verdict(Cause::NoRewriteSeen, 3),
            verdict(Cause::Unknown, 3),
        ],
        events_lost: 77,
        workload: Some(Box::new(workload(WorkloadState::Finished, 123_456))),
        ..Summary::default()
    }
}
