//! The text output, line by line.

use super::*;
use crate::event::{
    Association, Cause, Check, Context, IntegrityError, Latency, Operation, Page, PageKind, Proof,
    ProofKind, Source, Stall, StallSummary, Summary, TaskState, Verdict, Waiting,
};

fn output_in(width: Width, events: Vec<Event>) -> String {
    let mut out = Vec::new();
    let mut text = TextSink::new(&mut out, Style { color: false }, width);
    for event in events {
        let time = "2026-01-02T03:04:05.678901234Z".parse().unwrap();
        text.line(&Line { seq: 1, time, monotonic_ns: None, event }).unwrap();
    }
    String::from_utf8(out).unwrap()
}

fn output(event: Event) -> String {
    output_in(Width::Unlimited, vec![event])
}

fn stall() -> Stall {
    Stall {
        context: Context::PageMkwrite,
        function: "ext4_page_mkwrite".into(),
        duration_ns: 18_300_000,
        pid: 41,
        tid: 42,
        comm: "wac\x1b".into(),
        process: None,
        cgroup_id: Some(1),
        cgroup: None,
        container: None,
        device: Some("loop0".into()),
        dev: Some(crate::units::DeviceId::new(7, 0)),
        fs: Some("ext4".into()),
        server_pid: None,
        subvolume_dev: None,
        ino: Some(12),
        index: 3,
        path: None,
        path_from: None,
        stack: None,
    }
}

fn error() -> IntegrityError {
    let page = |index| Page {
        kind: PageKind::File,
        subvolume_dev: None,
        ino: Some(12),
        index: Some(index),
        device: None,
        dev: None,
        fs: None,
        stable: Some(false),
    };
    IntegrityError {
        op: Operation::Write,
        device: Some("sd\x07a".into()),
        dev: None,
        sector: Some(4096),
        sectors: 16,
        check: Check::Guard,
        source: Source::Scsi,
        began_ns_before: None,
        proof: None,
        status: "EILSEQ".into(),
        pages: vec![page(3), page(4)],
        pages_total: None,
        fs: None,
        path: None,
        path_from: None,
        pid: None,
        tid: None,
        comm: None,
    }
}

fn verdict() -> Verdict {
    Verdict {
        integrity_seq: 7,
        device: Some("sda".into()),
        cause: Cause::PageRewrittenInFlight,
        confidence: 0.95,
        evidence: vec![5, 6],
        stalls_same_page: 1,
        stalls_same_file: 2,
        proof: Some(Proof::of(ProofKind::MemoryChanged)),
        stalls_same_device: 3,
        explanation: "Page 3 of inode 12 was given to a writer 2.1 ms before the check failed."
            .into(),
    }
}

#[test]
fn a_stall_is_one_line_below_the_headings() {
    let text = output(Event::Stall(stall()));
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 2);
    let columns: Vec<_> = lines[1].split_whitespace().collect();
    assert_eq!(
        columns,
        [
            "03:04:05.678901",
            "18.3ms",
            "page_mkwrite",
            "ext4_page_mkwrite",
            "loop0",
            "ext4",
            "12",
            "3",
            r"wac\u{1b}[42]"
        ]
    );
}

#[test]
fn headings_stand_above_their_columns() {
    let text = output(Event::Stall(stall()));
    let lines: Vec<_> = text.lines().collect();
    for (heading, value) in [("CONTEXT", "page_mkwrite"), ("DEVICE", "loop0"), ("TASK", "wac")] {
        assert_eq!(lines[0].find(heading), lines[1].find(value), "{text}");
    }
}

#[test]
fn without_a_width_nothing_is_truncated() {
    let function = "a_function_whose_name_is_longer_than_its_column";
    let text = output(Event::Stall(Stall { function: function.into(), ..stall() }));
    assert!(text.contains(function), "{text}");
}

#[test]
fn no_line_is_wider_than_the_terminal() {
    let stalls = vec![StallSummary {
        context: Context::WriteBegin,
        device: Some("nvme0n1p15-of-a-long-name".into()),
        fs: Some("ext4".into()),
        count: 1_234_567,
        total_ns: 1,
        p50_ns: 2,
        p90_ns: 3,
        p99_ns: 4,
        max_ns: 5_000_000_000,
        buckets: vec![1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12],
    }];
    let summary = Summary {
        stalls,
        integrity_errors_total: 3,
        events_lost: 5,
        waiting: vec![Waiting::from(stall())],
        ..Summary::default()
    };
    for width in 42..200 {
        let events = vec![
            Event::Stall(stall()),
            Event::Waiting(Waiting {
                server_pid: Some(1_234_567),
                server_state: Some(TaskState::Stopped),
                ..Waiting::from(stall())
            }),
            Event::Integrity(error()),
            Event::Verdict(verdict()),
            Event::Summary(summary.clone()),
        ];
        let text = output_in(Width::Cells(width), events);
        for line in text.lines() {
            assert!(truncate::cells(line) <= width, "{width}: {line}");
        }
    }
}

#[test]
fn an_integrity_error_has_check_sectors_device_and_pages() {
    let text = output(Event::Integrity(error()));
    assert_eq!(
        text,
        "03:04:05.678901   EILSEQ  the guard check of a write failed: 16 sectors at 4096 of \
         sd\\u{7}a (seen by scsi); pages 3 to 4 of inode 12\n"
    );
}

#[test]
fn a_verdict_has_cause_confidence_explanation_and_evidence() {
    let text = output(Event::Verdict(verdict()));
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(
        lines,
        [
            "03:04:05.678901  VERDICT  page rewritten in flight (95 % sure, by proof), sda",
            "                          Page 3 of inode 12 was given to a writer 2.1 ms before the check failed.",
            "                          on error 7, from lines 5 6; stalls near it: 1 on the page, 2 on the file, 3 on the device",
        ]
    );
}

#[test]
fn associations_have_ratios_and_p_values() {
    let around = Latency { stalls: 40, p50_ns: 4_000_000, p99_ns: 9_000_000 };
    let elsewhere = Latency { stalls: 400, p50_ns: 1_000_000, p99_ns: 6_000_000 };
    let line = Association {
        device: Some("sda".into()),
        around,
        elsewhere,
        p50_ratio: Some(4.0),
        p99_ratio: Some(1.5),
        p_value: Some(0.0001),
        peak_lag_ns: Some(-2_000_000),
        ..Association::default()
    };
    let few = Association {
        too_few: true,
        too_few_reason: Some("2 errors".into()),
        ..Association::default()
    };
    let text =
        output(Event::Summary(Summary { associations: vec![line, few], ..Summary::default() }));
    let wanted = [
        "  sda        p50 4.00ms against 1.00ms (4.00×), p99 9.00ms against 6.00ms (1.50×), p < 0.001, most 2.00ms before",
        "  all        2 errors",
    ];
    for wanted in wanted {
        assert!(text.lines().any(|line| line == wanted), "{wanted}\n{text}");
    }
}

#[test]
fn a_wait_that_lasts_is_a_line_with_its_server() {
    let lasts = Waiting { age_ns: 12_300_000_000, ..Waiting::from(stall()) };
    let text = output(Event::Waiting(lasts.clone()));
    let row = text.lines().nth(1).unwrap();
    assert!(row.contains("> 12.3s") && row.contains(r"wac\u{1b}[42]"), "{text}");
    let over = Waiting { ended: true, ..lasts.clone() };
    assert!(!output(Event::Waiting(over)).contains('>'));
    let state = Some(TaskState::Stopped);
    let served = Waiting { server_pid: Some(7), server_state: state, ..lasts };
    let text = output(Event::Waiting(served));
    assert!(text.ends_with("  served by process 7, which is stopped\n"), "{text}");
}

#[test]
fn a_wait_that_lasts_tells_what_its_device_writes() {
    let of = |writes_in_flight, ended| {
        let waiting = Waiting { ended, writes_in_flight, ..Waiting::from(stall()) };
        output(Event::Waiting(waiting)).lines().nth(2).map(|line| line.trim().to_owned())
    };
    assert_eq!(of(Some(0), false).unwrap(), "loop0 has no write in flight");
    assert_eq!(of(Some(3), false).unwrap(), "loop0 has 3 writes in flight");
    assert_eq!(of(None, false), None);
    assert_eq!(of(Some(3), true), None, "what it writes by now is for others");
}

#[test]
fn tasks_that_wait_at_the_end_are_listed() {
    let waiting: Vec<_> = (1..=9)
        .map(|age| Waiting { age_ns: age * 1_000_000_000, ..Waiting::from(stall()) })
        .collect();
    let text =
        output(Event::Summary(Summary { waiting, waits_unfinished: 64, ..Summary::default() }));
    assert!(text.contains("  64 tasks waited at the end:\n"), "{text}");
    let wanted = r"        1.00s page_mkwrite loop0      ext4   inode 12 page 3  wac\u{1b}[42]";
    assert!(text.lines().any(|line| line == wanted), "{wanted}\n{text}");
    assert_eq!(text.matches("inode 12").count(), 8, "{text}");
    assert!(!output(Event::Summary(Summary::default())).contains("waited"));
}

#[test]
fn lost_events_are_in_the_summary() {
    let summary = Summary { events_lost: 5, stalls_total: 9, ..Summary::default() };
    let text = output(Event::Summary(summary));
    assert!(text.contains("9 stalls") && text.contains("5 of them are not listed"), "{text}");
}

#[test]
fn the_summary_of_a_truncated_recording_is_marked() {
    let text = output(Event::Summary(Summary { incomplete: true, ..Summary::default() }));
    assert!(text.contains("as far as the recording goes"), "{text}");
    assert!(text.contains("from the lines of the recording alone"), "{text}");
}
