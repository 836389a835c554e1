//! What happened, as lines, and what is said of it.

use super::*;
use crate::{
    correlate::sample::{
        ANONYMOUS, At, UNKNOWN, failure, line, lost, ns, page, rewrite, stall, start, workload,
    },
    event::{Cause, Check, IntegrityError, Operation, Source},
};

const SECOND: u64 = 1_000_000;

/// A page of a file system that holds its pages, and one that does not.
const HELD: At<'_> = ("sda1", 77, 12);
const LOOSE: At<'_> = ("loop0", 78, 3);

/// The verdicts on lines: the sample's start, and these at so many µs, numbered from 2.
fn verdicts(events: impl IntoIterator<Item = (u64, Event)>) -> Vec<Verdict> {
    with(Limits::default(), events)
}

fn with(limits: Limits, events: impl IntoIterator<Item = (u64, Event)>) -> Vec<Verdict> {
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
fn stores_to_a_page_in_flight_are_to_blame() {
    let verdict = one([
        (10 * SECOND, rewrite(LOOSE, Context::PageMkwrite)),
        (10 * SECOND + 400, rewrite(LOOSE, Context::PageMkwrite)),
        (10 * SECOND + 800, rewrite(LOOSE, Context::PageMkwrite)),
        (10 * SECOND + 900, rewrite(("loop0", 78, 4), Context::PageMkwrite)),
        (10 * SECOND + 1_500, write_of(LOOSE, false)),
    ]);
    assert_eq!(summary(&verdict), (Cause::PageRewrittenInFlight, 0.95));
    assert_eq!(verdict.integrity_seq, 6);
    assert_eq!(verdict.evidence, [4, 3, 2, 6], "the latest rewrite tells most");
    assert_eq!(
        verdict.explanation,
        "3 stores to page 3 of inode 78 on loop0 (ext4) while it was being written; its file \
         system does not hold pages stable"
    );
}

#[test]
fn a_broken_promise_is_named() {
    let verdict = one([
        (10 * SECOND, rewrite(HELD, Context::WriteBegin)),
        (10 * SECOND + 10, write_of(HELD, true)),
    ]);
    assert_eq!(summary(&verdict), (Cause::PageRewrittenInFlight, 0.95));
    assert!(verdict.explanation.starts_with("1 write to page 12"), "{}", verdict.explanation);
    assert!(verdict.explanation.ends_with("the kernel broke its word"), "{}", verdict.explanation);
}

#[test]
fn a_rewrite_out_of_the_window_after_the_error_or_elsewhere_is_not_to_blame() {
    for (us, at) in [
        (SECOND, HELD),
        (10 * SECOND + 100_000, HELD),
        (10 * SECOND - 10, ("sda1", 77, 13)),
        (10 * SECOND - 10, ("sda1", 79, 12)),
        (10 * SECOND - 10, ("sdb", 77, 12)),
    ] {
        let rewritten = (us, rewrite(at, Context::WriteBegin));
        let mut events = vec![rewritten, (10 * SECOND, write_of(HELD, true))];
        events.sort_by_key(|(us, _)| *us);
        assert_eq!(summary(&one(events)), (Cause::NoRewriteSeen, 0.90), "{us} {at:?}");
    }
}

#[test]
fn a_file_that_may_change_is_told_from_one_that_nobody_touches() {
    let beside = [
        (10 * SECOND - 500, rewrite(("loop0", 78, 9), Context::WriteBegin)),
        (10 * SECOND, write_of(LOOSE, false)),
    ];
    let beside = one(beside);
    assert_eq!(summary(&beside), (Cause::PageRewrittenInFlight, 0.75));
    assert_eq!(beside.evidence, [2, 3]);
    let idle = one([
        (10 * SECOND - 500, rewrite(("loop0", 79, 9), Context::WriteBegin)),
        (10 * SECOND, write_of(LOOSE, false)),
    ]);
    assert_eq!(summary(&idle), (Cause::NoRewriteSeen, 0.50));
}

#[test]
fn a_mapping_that_says_nothing_is_as_stable_as_its_device() {
    for (device, cause, confidence) in [
        ("sda", Cause::NoRewriteSeen, 0.80),
        ("sdb", Cause::NoRewriteSeen, 0.50),
        ("sdz", Cause::Unknown, 0.0),
    ] {
        let error = failure(device, 8, vec![page((device, 5, 5), None)]);
        let verdict = one([(SECOND, Event::Integrity(error))]);
        assert_eq!(summary(&verdict), (cause, confidence), "{device}");
        let by_start = verdict.evidence.contains(&1);
        assert_eq!(by_start, device != "sdz", "the start is evidence: {verdict:?}");
    }
}

#[test]
fn a_buffer_of_direct_io_is_its_owners() {
    let error = IntegrityError {
        comm: Some("postgres".to_owned()),
        ..failure("sda", 2048, vec![ANONYMOUS, ANONYMOUS])
    };
    let verdict = one([(SECOND, Event::Integrity(error))]);
    assert_eq!(summary(&verdict), (Cause::DirectIoBuffer, 0.80));
    assert_eq!(
        verdict.explanation,
        "2 pages of postgres's own memory were being written to sda by direct I/O: only the \
         process can keep that as it is meanwhile, and what it does to it is not seen"
    );
}

#[test]
fn a_buffer_is_not_to_blame_for_what_the_disk_read_or_for_a_tag() {
    let read = IntegrityError { op: Operation::Read, ..failure("sda", 2048, vec![ANONYMOUS]) };
    let tag =
        IntegrityError { check: Check::ReferenceTag, ..failure("sda", 4096, vec![ANONYMOUS]) };
    let verdicts = verdicts([(SECOND, Event::Integrity(read)), (SECOND, Event::Integrity(tag))]);
    let said: Vec<_> = verdicts.iter().map(summary).collect();
    assert_eq!(said, [(Cause::NoRewriteSeen, 0.90), (Cause::NoRewriteSeen, 0.90)]);
}

#[test]
fn a_scribbled_read_buffer_is_told_from_a_sector_that_the_disk_finds_bad() {
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
    let said: Vec<_> = verdicts.iter().map(|verdict| verdict.cause).collect();
    assert_eq!(said, [Cause::DirectIoBuffer, Cause::NoRewriteSeen, Cause::NoRewriteSeen]);
}

#[test]
fn errors_that_come_back_on_one_sector_strengthen_each_other() {
    let read = || {
        let read = IntegrityError { op: Operation::Read, ..failure("sda", 64, vec![]) };
        Event::Integrity(read)
    };
    let verdicts = verdicts([(SECOND, read()), (2 * SECOND, read()), (9 * SECOND, read())]);
    let said: Vec<_> = verdicts.iter().map(|verdict| verdict.confidence).collect();
    assert_eq!(said, [0.95, 0.95, 0.90], "the third is out of the window");
    assert_eq!(verdicts[0].evidence, [2, 3]);
    assert!(
        verdicts[1].explanation.ends_with("1 more error was there within the window"),
        "{}",
        verdicts[1].explanation
    );
}

#[test]
fn what_is_lost_may_hide_a_rewrite() {
    let at = 10 * SECOND;
    for (us, cause) in [
        (at - 6 * SECOND, Cause::NoRewriteSeen),
        (at - 4 * SECOND, Cause::Unknown),
        (at + SECOND / 2, Cause::Unknown),
        (at + 2 * SECOND, Cause::NoRewriteSeen),
    ] {
        let mut events = vec![(at, write_of(HELD, true)), (us, lost(3))];
        events.sort_by_key(|(us, _)| *us);
        assert_eq!(one(events).cause, cause, "lost at {us}");
    }
    let read = IntegrityError { op: Operation::Read, ..failure("sda", 64, vec![]) };
    let verdict = one([(at - 1, lost(3)), (at, Event::Integrity(read))]);
    assert_eq!(verdict.cause, Cause::NoRewriteSeen, "no rewrite could be to blame");
    let verdict = one([(at - 1, lost(3)), (at, write_of(LOOSE, false))]);
    assert_eq!(summary(&verdict), (Cause::PageRewrittenInFlight, 0.60));
}

#[test]
fn pages_that_nobody_can_name_are_not_judged() {
    let unknown = failure("sda", 2048, vec![UNKNOWN]);
    let nameless = crate::event::Page { dev: None, ..page(HELD, Some(true)) };
    for error in [unknown, failure("sda", 2048, vec![]), failure("sda", 8, vec![nameless])] {
        assert_eq!(summary(&one([(SECOND, Event::Integrity(error))])), (Cause::Unknown, 0.0));
    }
    let some = IntegrityError {
        pages_total: Some(64),
        ..failure("sda", 2048, vec![page(HELD, Some(true))])
    };
    let verdict = one([(SECOND, Event::Integrity(some.clone()))]);
    assert_eq!(summary(&verdict), (Cause::NoRewriteSeen, 0.75));
    let verdict = one([
        (SECOND, rewrite(("sda1", 77, 40), Context::WriteBegin)),
        (SECOND, Event::Integrity(some)),
    ]);
    assert_eq!(summary(&verdict), (Cause::Unknown, 0.0), "it may have been one of the others");
}

#[test]
fn a_run_that_does_not_watch_every_writer_says_so() {
    let Event::Start(whole) = start() else { panic!("no start") };
    let mut unattached = whole.clone();
    unattached.probes.remove(1);
    let filtered = crate::event::Start { filtered: true, ..whole.clone() };
    let elsewhere = crate::event::Start {
        only_devices: vec![crate::units::DeviceId::new(8, 16)],
        ..whole.clone()
    };
    let here =
        crate::event::Start { only_devices: vec![crate::units::DeviceId::new(8, 0)], ..whole };
    for (start, cause) in [
        (unattached, Cause::Unknown),
        (filtered, Cause::Unknown),
        (elsewhere, Cause::Unknown),
        (here, Cause::NoRewriteSeen),
    ] {
        let mut correlator = Correlator::new(Limits::default());
        correlator.observe(&line(1, 0, Event::Start(start.clone())));
        correlator.observe(&line(2, SECOND, write_of(HELD, true)));
        assert_eq!(correlator.finish()[0].cause, cause, "{start:?}");
    }
}

#[test]
fn stalls_count_by_page_file_and_disk() {
    let verdict = one([
        (4 * SECOND, stall(HELD, 50)),
        (9 * SECOND, stall(HELD, 2_000)),
        (9 * SECOND, stall(("sda1", 77, 13), 2_000)),
        (9 * SECOND, stall(("sda", 5, 0), 2_000)),
        (9 * SECOND, stall(LOOSE, 2_000)),
        (10 * SECOND, write_of(HELD, true)),
        (10 * SECOND + 900_000, stall(HELD, 3_000_000)),
        (12 * SECOND, stall(HELD, 10)),
    ]);
    let counts = (verdict.stalls_same_page, verdict.stalls_same_file, verdict.stalls_same_device);
    assert_eq!(counts, (2, 3, 4), "a partition counts for its disk");
    assert_eq!(verdict.evidence, [7, 8, 3]);
}

#[test]
fn the_workloads_own_count_of_failures_is_evidence() {
    let verdict = one([
        (9 * SECOND, workload(3)),
        (10 * SECOND, write_of(HELD, true)),
        (10 * SECOND + 200_000, workload(3)),
        (10 * SECOND + 700_000, workload(4)),
    ]);
    assert_eq!(verdict.evidence, [3, 5]);
}

#[test]
fn a_verdict_is_given_when_it_is_due() {
    let mut correlator = Correlator::new(Limits::default());
    correlator.observe(&line(1, 0, start()));
    assert!(correlator.observe(&line(2, SECOND, write_of(HELD, true))).is_empty());
    assert!(correlator.observe(&line(3, 9 * SECOND, lost(1))).is_empty(), "no clock");
    assert!(correlator.observe(&line(4, 3 * SECOND - 1, stall(HELD, 1))).is_empty());
    let due = correlator.observe(&line(5, 3 * SECOND, stall(HELD, 1)));
    assert_eq!(due.len(), 1, "one second for what comes after, and one of slack");
    correlator.observe(&line(6, 4 * SECOND, write_of(HELD, true)));
    assert!(correlator.settle(ns(6 * SECOND) - 1).is_empty());
    assert_eq!(correlator.settle(ns(6 * SECOND)).len(), 1);
    assert!(correlator.finish().is_empty());
}

#[test]
fn a_clock_that_was_set_back_hides_what_was_before() {
    let verdicts = verdicts([
        (3_600 * SECOND, write_of(HELD, true)),
        (SECOND, write_of(HELD, true)),
        (9 * SECOND, write_of(HELD, true)),
    ]);
    let causes: Vec<_> = verdicts.iter().map(|verdict| verdict.cause).collect();
    assert_eq!(causes, [Cause::NoRewriteSeen, Cause::Unknown, Cause::NoRewriteSeen]);
}

#[test]
fn a_rewrite_that_had_to_leave_is_hidden_and_not_denied() {
    let rewrites =
        |count| (0..count).map(|n| (SECOND + n, rewrite(("sdb", 1, n), Context::WriteBegin)));
    let limits = Limits { max_events: 10, ..Limits::default() };
    let error = || [(SECOND + 100, write_of(HELD, true))];
    let covered = with(limits, rewrites(10).chain(error()));
    assert_eq!(covered[0].cause, Cause::NoRewriteSeen);
    let uncovered = with(limits, rewrites(11).chain(error()));
    assert_eq!(uncovered[0].cause, Cause::Unknown);
    assert!(uncovered[0].explanation.ends_with("no room to remember all rewrites"));
}

#[test]
fn errors_beyond_the_bound_are_judged_early_and_say_so() {
    let limits = Limits { max_events: 8, ..Limits::default() };
    let errors = (0..4).map(|n| (SECOND + n, write_of(HELD, true)));
    let causes: Vec<_> = with(limits, errors)
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

/// Stores to a file that does not hold its pages, a shared buffer, and errors that something else
/// made on a file that nobody rewrites, all on one disk at once.
#[test]
fn a_mix_of_causes_is_told_apart_page_by_page() {
    let mut events = Vec::new();
    let mut expected = Vec::new();
    for round in 0..200_u64 {
        let us = SECOND + round * 10_000;
        let loose = ("loop0", 78, round % 16);
        events.push((us, rewrite(loose, Context::WriteBegin)));
        events.push((us + 10, rewrite(("loop0", 78, (round + 5) % 16), Context::PageMkwrite)));
        events.push((us + 1_000, write_of(loose, false)));
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
    let said: Vec<_> = verdicts(events).into_iter().map(|verdict| verdict.cause).collect();
    assert_eq!(said, expected);
}
