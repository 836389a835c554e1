//! Scenarios: lines of a stream, and the expected verdicts.

mod clock;

use super::*;
use crate::{
    correlate::sample::{
        ANONYMOUS, At, UNKNOWN, failure, line, lost, ns, page, rewrite, stall, start, workload,
    },
    event::{Cause, Check, IntegrityError, Lost, Operation, Output, Page, PageKind, Source},
};

const SECOND: u64 = 1_000_000;

/// A page of a file system that holds pages stable.
const STABLE: At<'_> = ("sda1", 77, 12);

/// A page of a file system that does not hold pages stable.
const UNSTABLE: At<'_> = ("loop0", 78, 3);

/// The verdicts on the sample start line followed by events at times in µs, with `seq`s from 2.
fn verdicts(events: impl IntoIterator<Item = (u64, Event)>) -> Vec<Verdict> {
    verdicts_with(Limits::default(), events)
}

fn verdicts_with(limits: Limits, events: impl IntoIterator<Item = (u64, Event)>) -> Vec<Verdict> {
    let mut correlator = Correlator::new(limits);
    let mut verdicts = correlator.observe(&line(1, 0, start()));
    for (seq, (us, event)) in (2..).zip(events) {
        verdicts.extend(correlator.observe(&line(seq, us, event)));
    }
    verdicts.extend(correlator.finish());
    verdicts
}

#[track_caller]
fn one(events: impl IntoIterator<Item = (u64, Event)>) -> Verdict {
    let verdicts = verdicts(events);
    assert_eq!(verdicts.len(), 1, "{verdicts:?}");
    verdicts.into_iter().next().unwrap()
}

fn write_of(at: At<'_>, stable: bool) -> Event {
    Event::Integrity(failure("sda", 2048, vec![page(at, Some(stable))]))
}

fn summary(verdict: &Verdict) -> (Cause, f64) {
    (verdict.cause, verdict.confidence)
}

#[test]
fn stores_to_a_page_under_writeback_are_the_cause() {
    let verdict = one([
        (10 * SECOND, rewrite(UNSTABLE, Context::PageMkwrite)),
        (10 * SECOND + 400, rewrite(UNSTABLE, Context::PageMkwrite)),
        (10 * SECOND + 800, rewrite(UNSTABLE, Context::PageMkwrite)),
        (10 * SECOND + 900, rewrite(("loop0", 78, 4), Context::PageMkwrite)),
        (10 * SECOND + 1_500, write_of(UNSTABLE, false)),
    ]);
    assert_eq!(summary(&verdict), (Cause::PageRewrittenInFlight, 0.95));
    assert_eq!(verdict.integrity_seq, 6);
    assert_eq!(verdict.evidence, [4, 3, 2, 6], "the latest rewrite comes first");
    assert_eq!(
        verdict.explanation,
        "3 stores to page 3 of inode 78 on loop0 (ext4) under writeback; its file system does not \
         hold pages stable"
    );
}

#[test]
fn a_violated_guarantee_is_named() {
    let verdict = one([
        (10 * SECOND, rewrite(STABLE, Context::WriteBegin)),
        (10 * SECOND + 10, write_of(STABLE, true)),
    ]);
    assert_eq!(summary(&verdict), (Cause::PageRewrittenInFlight, 0.95));
    assert!(verdict.explanation.starts_with("1 write to page 12"), "{}", verdict.explanation);
    assert!(
        verdict.explanation.ends_with("the kernel violated this guarantee"),
        "{}",
        verdict.explanation
    );
}

#[test]
fn a_rewrite_outside_the_window_after_the_error_or_elsewhere_is_not_the_cause() {
    for (us, at) in [
        (SECOND, STABLE),
        (10 * SECOND + 100_000, STABLE),
        (10 * SECOND - 10, ("sda1", 77, 13)),
        (10 * SECOND - 10, ("sda1", 79, 12)),
        (10 * SECOND - 10, ("sdb", 77, 12)),
    ] {
        let rewritten = (us, rewrite(at, Context::WriteBegin));
        let mut events = vec![rewritten, (10 * SECOND, write_of(STABLE, true))];
        events.sort_by_key(|(us, _)| *us);
        assert_eq!(summary(&one(events)), (Cause::NoRewriteSeen, 0.90), "{us} {at:?}");
    }
}

#[test]
fn a_rewritten_unstable_file_is_distinguished_from_an_idle_one() {
    let events = [
        (10 * SECOND - 500, rewrite(("loop0", 78, 9), Context::WriteBegin)),
        (10 * SECOND, write_of(UNSTABLE, false)),
    ];
    let other_page = one(events);
    assert_eq!(summary(&other_page), (Cause::PageRewrittenInFlight, 0.50));
    assert_eq!(other_page.evidence, [2, 3]);
    let idle = one([
        (10 * SECOND - 500, rewrite(("loop0", 79, 9), Context::WriteBegin)),
        (10 * SECOND, write_of(UNSTABLE, false)),
    ]);
    assert_eq!(summary(&idle), (Cause::NoRewriteSeen, 0.50));
}

#[test]
fn an_unknown_mapping_is_as_stable_as_its_device() {
    for (device, cause, confidence) in [
        ("sda", Cause::NoRewriteSeen, 0.80),
        ("sdb", Cause::NoRewriteSeen, 0.50),
        ("sdz", Cause::Unknown, 0.0),
    ] {
        let error = failure(device, 8, vec![page((device, 5, 5), None)]);
        let verdict = one([(SECOND, Event::Integrity(error))]);
        assert_eq!(summary(&verdict), (cause, confidence), "{device}");
        let by_start = verdict.evidence.contains(&1);
        assert_eq!(by_start, device != "sdz", "the start line is evidence: {verdict:?}");
    }
}

#[test]
fn a_direct_io_buffer_is_the_cause_of_a_failed_write() {
    let error = IntegrityError {
        comm: Some("postgres".to_owned()),
        ..failure("sda", 2048, vec![ANONYMOUS, ANONYMOUS])
    };
    let verdict = one([(SECOND, Event::Integrity(error))]);
    assert_eq!(summary(&verdict), (Cause::DirectIoBuffer, 0.50));
    assert_eq!(
        verdict.explanation,
        "2 pages of postgres's own memory were being written to sda by direct I/O: only the \
         process can keep this memory unchanged during the write, and its changes cannot be \
         observed"
    );
}

#[test]
fn a_buffer_in_shared_memory_is_a_buffer() {
    let shared = Page { kind: PageKind::Shared, ..page(STABLE, Some(true)) };
    let tmpfs = Page { fs: Some("tmpfs".to_owned()), device: None, ..page(STABLE, Some(false)) };
    for pages in [vec![shared.clone(), shared], vec![tmpfs]] {
        let verdict = one([
            (SECOND - 10, rewrite(STABLE, Context::PageMkwrite)),
            (SECOND, Event::Integrity(failure("sda", 2048, pages))),
        ]);
        assert_eq!(summary(&verdict), (Cause::DirectIoBuffer, 0.50), "{verdict:?}");
    }
}

#[test]
fn a_page_that_is_swapped_has_no_known_writer() {
    let swap = Page::without_file(PageKind::Swap);
    let verdict = one([(SECOND, Event::Integrity(failure("sda", 2048, vec![swap])))]);
    assert_eq!(summary(&verdict), (Cause::Unknown, 0.0));
}

#[test]
fn a_rewrite_before_the_request_is_not_the_cause() {
    let error = |began_ns_before| {
        let failed = failure("sda", 2048, vec![page(STABLE, Some(true))]);
        Event::Integrity(IntegrityError { began_ns_before, ..failed })
    };
    for (before_us, began_ns_before, expected) in [
        (3_000, Some(4_000_000), (Cause::PageRewrittenInFlight, 0.95)),
        (6_000, Some(4_000_000), (Cause::NoRewriteSeen, 0.90)),
        (3 * SECOND, Some(4_000_000), (Cause::NoRewriteSeen, 0.90)),
        (3 * SECOND, Some(3_500_000_000), (Cause::PageRewrittenInFlight, 0.95)),
        (3 * SECOND, None, (Cause::PageRewrittenInFlight, 0.50)),
    ] {
        let verdict = one([
            (10 * SECOND - before_us, rewrite(STABLE, Context::WriteBegin)),
            (10 * SECOND, error(began_ns_before)),
        ]);
        assert_eq!(summary(&verdict), expected, "{before_us} {began_ns_before:?}");
    }
}

#[test]
fn a_file_system_that_no_probe_sees_may_have_been_rewritten() {
    let with = |fs: &str| {
        let page = Page { fs: Some(fs.to_owned()), ..page(STABLE, Some(true)) };
        summary(&one([(SECOND, Event::Integrity(failure("sda", 2048, vec![page])))]))
    };
    assert_eq!(with("ext4"), (Cause::NoRewriteSeen, 0.90));
    // The probe on `block_write_end` sees nothing of these.
    for fs in ["xfs", "btrfs", "f2fs", "nfs4", "fuse", "bcachefs", "bdev"] {
        assert_eq!(with(fs), (Cause::Unknown, 0.0), "{fs}");
    }
}

#[test]
fn a_buffer_is_not_the_cause_of_a_disk_read_error_or_a_tag_error() {
    let read = IntegrityError { op: Operation::Read, ..failure("sda", 2048, vec![ANONYMOUS]) };
    let tag =
        IntegrityError { check: Check::ReferenceTag, ..failure("sda", 4096, vec![ANONYMOUS]) };
    let verdicts = verdicts([(SECOND, Event::Integrity(read)), (SECOND, Event::Integrity(tag))]);
    let found: Vec<_> = verdicts.iter().map(summary).collect();
    assert_eq!(found, [(Cause::NoRewriteSeen, 0.90), (Cause::NoRewriteSeen, 0.90)]);
}

#[test]
fn a_changed_read_buffer_is_distinguished_from_a_bad_sector() {
    let verified = |sector| IntegrityError {
        op: Operation::Read,
        source: Source::Verify,
        ..failure("sda", sector, vec![ANONYMOUS])
    };
    let by_disk = IntegrityError { op: Operation::Read, ..failure("sda", 99, vec![ANONYMOUS]) };
    let verdicts = verdicts([
        (SECOND, Event::Integrity(verified(8))),
        (SECOND + 1, Event::Integrity(verified(99))),
        (SECOND + 2, Event::Integrity(by_disk)),
    ]);
    let found: Vec<_> = verdicts.iter().map(|verdict| verdict.cause).collect();
    assert_eq!(found, [Cause::DirectIoBuffer, Cause::NoRewriteSeen, Cause::NoRewriteSeen]);
}

#[test]
fn a_wrong_checksum_of_a_file_system_does_not_tell_when_the_data_changed() {
    let read = |page| IntegrityError {
        op: Operation::Read,
        source: Source::Filesystem,
        sector: None,
        fs: Some("btrfs".to_owned()),
        ..failure("sda", 0, vec![page])
    };
    let named = Page { fs: Some("btrfs".to_owned()), ..page(STABLE, Some(true)) };
    let verdict = one([(SECOND, Event::Integrity(read(named)))]);
    assert_eq!(summary(&verdict), (Cause::Unknown, 0.0));
    assert!(
        verdict.explanation.starts_with(
            "Page 12 of inode 77 on sda1 (btrfs), as it was read from sda, does not match"
        ),
        "{}",
        verdict.explanation
    );
    let unnamed = Page { stable: Some(true), ..Page::without_file(PageKind::File) };
    let verdict = one([(SECOND, Event::Integrity(read(unnamed)))]);
    assert_eq!(summary(&verdict), (Cause::Unknown, 0.0));
    assert!(verdict.explanation.starts_with("A page of a file, as it"), "{}", verdict.explanation);
}

#[test]
fn repeated_errors_on_one_sector_raise_the_confidence() {
    let read = || {
        let read = IntegrityError { op: Operation::Read, ..failure("sda", 64, vec![]) };
        Event::Integrity(read)
    };
    let verdicts = verdicts([(SECOND, read()), (2 * SECOND, read()), (9 * SECOND, read())]);
    let found: Vec<_> = verdicts.iter().map(|verdict| verdict.confidence).collect();
    assert_eq!(found, [0.95, 0.95, 0.90], "the third is outside the window");
    assert_eq!(verdicts[0].evidence, [2, 3]);
    assert!(
        verdicts[1].explanation.ends_with("1 more error on this sector within the window"),
        "{}",
        verdicts[1].explanation
    );
}

#[test]
fn lost_events_may_include_a_rewrite() {
    let at = 10 * SECOND;
    for (us, cause) in [
        (at - 6 * SECOND, Cause::NoRewriteSeen),
        (at - 4 * SECOND, Cause::Unknown),
        (at + SECOND / 2, Cause::Unknown),
        (at + 2 * SECOND, Cause::NoRewriteSeen),
    ] {
        let mut events = vec![(at, write_of(STABLE, true)), (us, lost(3))];
        events.sort_by_key(|(us, _)| *us);
        assert_eq!(one(events).cause, cause, "lost at {us}");
    }
    let read = IntegrityError { op: Operation::Read, ..failure("sda", 64, vec![]) };
    let verdict = one([(at - 1, lost(3)), (at, Event::Integrity(read))]);
    assert_eq!(verdict.cause, Cause::NoRewriteSeen, "a rewrite cannot be the cause");
    let verdict = one([(at - 1, lost(3)), (at, write_of(UNSTABLE, false))]);
    assert_eq!(summary(&verdict), (Cause::PageRewrittenInFlight, 0.50));
}

#[test]
fn unidentified_pages_make_the_cause_unknown() {
    let unknown = failure("sda", 2048, vec![UNKNOWN]);
    let unidentified = Page { dev: None, ..page(STABLE, Some(true)) };
    for error in [unknown, failure("sda", 2048, vec![]), failure("sda", 8, vec![unidentified])] {
        assert_eq!(summary(&one([(SECOND, Event::Integrity(error))])), (Cause::Unknown, 0.0));
    }
    let some = IntegrityError {
        pages_total: Some(64),
        ..failure("sda", 2048, vec![page(STABLE, Some(true))])
    };
    let verdict = one([(SECOND, Event::Integrity(some.clone()))]);
    assert_eq!(summary(&verdict), (Cause::NoRewriteSeen, 0.75));
    let verdict = one([
        (SECOND, rewrite(("sda1", 77, 40), Context::WriteBegin)),
        (SECOND, Event::Integrity(some)),
    ]);
    assert_eq!(
        summary(&verdict),
        (Cause::Unknown, 0.0),
        "the rewritten page may be one of the unknown pages"
    );
}

#[test]
fn untraced_writers_make_the_cause_unknown() {
    let Event::Start(whole) = start() else { panic!("no start") };
    let mut unattached = whole.clone();
    unattached.probes.remove(1);
    let filtered = crate::event::Start { filtered: true, ..whole.clone() };
    let elsewhere = crate::event::Start {
        only_devices: vec![crate::units::DeviceId::new(8, 16)],
        ..whole.clone()
    };
    let mut unchecked_elsewhere = elsewhere.clone();
    unchecked_elsewhere.devices[0].integrity = None;
    let here =
        crate::event::Start { only_devices: vec![crate::units::DeviceId::new(8, 0)], ..whole };
    for (start, cause) in [
        (unattached, Cause::Unknown),
        (filtered, Cause::Unknown),
        // No filter hides a write to a device that checks integrity.
        (elsewhere, Cause::NoRewriteSeen),
        (unchecked_elsewhere, Cause::Unknown),
        (here, Cause::NoRewriteSeen),
    ] {
        let mut correlator = Correlator::new(Limits::default());
        correlator.observe(&line(1, 0, Event::Start(start.clone())));
        correlator.observe(&line(2, SECOND, write_of(STABLE, true)));
        assert_eq!(correlator.finish()[0].cause, cause, "{start:?}");
    }
}

#[test]
fn stalls_count_by_page_file_and_disk() {
    let verdict = one([
        (4 * SECOND, stall(STABLE, 50)),
        (9 * SECOND, stall(STABLE, 2_000)),
        (9 * SECOND, stall(("sda1", 77, 13), 2_000)),
        (9 * SECOND, stall(("sda", 5, 0), 2_000)),
        (9 * SECOND, stall(UNSTABLE, 2_000)),
        (10 * SECOND, write_of(STABLE, true)),
        (10 * SECOND + 900_000, stall(STABLE, 3_000_000)),
        (12 * SECOND, stall(STABLE, 10)),
    ]);
    let counts = (verdict.stalls_same_page, verdict.stalls_same_file, verdict.stalls_same_device);
    assert_eq!(counts, (2, 3, 4), "a partition counts for its disk");
    assert_eq!(verdict.evidence, [7, 8, 3]);
}

#[test]
fn failed_calls_of_the_workload_are_evidence() {
    let verdict = one([
        (9 * SECOND, workload(3)),
        (10 * SECOND, write_of(STABLE, true)),
        (10 * SECOND + 200_000, workload(3)),
        (10 * SECOND + 700_000, workload(4)),
    ]);
    assert_eq!(verdict.evidence, [3, 5]);
}

/// The kernel skipped runs of the probes of writers: that no rewrite was seen says nothing.
#[test]
fn writers_that_were_not_seen_make_the_cause_unknown() {
    let unseen = Lost { within_ns: Some(500_000_000), unseen: 1, ..Lost::default() };
    let verdict = one([(SECOND, write_of(STABLE, true)), (SECOND + 400_000, Event::Lost(unseen))]);
    assert_eq!(verdict.cause, Cause::Unknown);
    let earlier = Lost { within_ns: Some(500_000_000), unseen: 1, ..Lost::default() };
    let verdict = one([(SECOND, Event::Lost(earlier)), (20 * SECOND, write_of(STABLE, true))]);
    assert_eq!(verdict.cause, Cause::NoRewriteSeen);
}

#[test]
fn lines_that_an_output_lacks_change_no_cause() {
    let lines = Lost { count: 9, output: Some(Output::Stdout), ..Lost::default() };
    let verdict = one([(SECOND, write_of(STABLE, true)), (SECOND + 400_000, Event::Lost(lines))]);
    assert_eq!(verdict.cause, Cause::NoRewriteSeen);
}

#[test]
fn an_evicted_rewrite_makes_the_cause_unknown() {
    let rewrites =
        |count| (0..count).map(|n| (SECOND + n, rewrite(("sdb", 1, n), Context::WriteBegin)));
    let limits = Limits { max_events: 10, ..Limits::default() };
    let error = || [(SECOND + 100, write_of(STABLE, true))];
    let covered = verdicts_with(limits, rewrites(10).chain(error()));
    assert_eq!(covered[0].cause, Cause::NoRewriteSeen);
    let uncovered = verdicts_with(limits, rewrites(11).chain(error()));
    assert_eq!(uncovered[0].cause, Cause::Unknown);
    assert!(uncovered[0].explanation.ends_with("rewrites were evicted for lack of space"));
}

#[test]
fn errors_beyond_the_bound_are_judged_early() {
    let limits = Limits { max_events: 8, ..Limits::default() };
    let errors = (0..4).map(|n| (SECOND + n, write_of(STABLE, true)));
    let causes: Vec<_> = verdicts_with(limits, errors)
        .into_iter()
        .map(|verdict| (verdict.integrity_seq, verdict.cause))
        .collect();
    assert_eq!(
        causes,
        [
            (2, Cause::Unknown),
            (3, Cause::Unknown),
            (4, Cause::NoRewriteSeen),
            (5, Cause::NoRewriteSeen)
        ]
    );
}

/// Stores to an unstable file, a shared direct I/O buffer, and errors with another cause on a file
/// without rewrites, all on one disk at the same time.
#[test]
fn concurrent_causes_are_distinguished_by_page() {
    let mut events = Vec::new();
    let mut expected = Vec::new();
    for round in 0..200_u64 {
        let us = SECOND + round * 10_000;
        let unstable = ("loop0", 78, round % 16);
        events.push((us, rewrite(unstable, Context::WriteBegin)));
        events.push((us + 10, rewrite(("loop0", 78, (round + 5) % 16), Context::PageMkwrite)));
        events.push((us + 1_000, write_of(unstable, false)));
        expected.push(Cause::PageRewrittenInFlight);
        let buffer = failure("sda", 9_000 + round, vec![ANONYMOUS]);
        events.push((us + 2_000, Event::Integrity(buffer)));
        expected.push(Cause::DirectIoBuffer);
        events.push((us + 2_500, stall(("sda1", 77, round), 2_000)));
        events.push((us + 3_000, write_of(("sda1", 77, round), true)));
        expected.push(Cause::NoRewriteSeen);
        let read = IntegrityError {
            op: Operation::Read,
            ..failure("sda", 5_000 + round, vec![page(("sda1", 99, round), Some(true))])
        };
        events.push((us + 4_000, Event::Integrity(read)));
        expected.push(Cause::NoRewriteSeen);
    }
    let found: Vec<_> = verdicts(events).into_iter().map(|verdict| verdict.cause).collect();
    assert_eq!(found, expected);
}
