//! Properties that hold for any stream.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{
    correlate::sample::{
        ANONYMOUS, UNKNOWN, failure, line, lost, ns, page, rewrite, stall, start, workload,
    },
    event::{Check, IntegrityError, Operation, Source},
};

fn error() -> impl Strategy<Value = Event> {
    let check = prop_oneof![
        6 => Just(Check::Guard),
        1 => Just(Check::ReferenceTag),
        1 => Just(Check::Unknown)
    ];
    let source = prop_oneof![Just(Source::Scsi), Just(Source::Verify)];
    let pages = proptest::collection::vec((0_u8..8, 0_u64..3, 0_u64..4), 0..4);
    (any::<bool>(), check, source, pages, 0_u64..4).prop_map(
        |(read, check, source, pages, sector)| {
            let pages = pages.into_iter().map(|(kind, ino, index)| match kind {
                0 => ANONYMOUS,
                1 => UNKNOWN,
                _ => page(("sda1", ino, index), (kind > 3).then_some(kind > 5)),
            });
            Event::Integrity(IntegrityError {
                op: if read { Operation::Read } else { Operation::Write },
                check,
                source,
                ..failure("sda", sector, pages.collect())
            })
        },
    )
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0_u64..3, 0_u64..4, 1_u64..3_000_000)
            .prop_map(|(ino, index, us)| stall(("sda1", ino, index), us)),
        3 => (0_u64..3, 0_u64..4, any::<bool>()).prop_map(|(ino, index, store)| {
            let context = if store { Context::PageMkwrite } else { Context::WriteBegin };
            rewrite(("sda1", ino, index), context)
        }),
        3 => error(),
        1 => (0_u64..5).prop_map(workload),
        1 => Just(lost(1)),
    ]
}

/// Lines in the order of time, each with its arrival time in µs.
fn stream(late_us: u64) -> impl Strategy<Value = Vec<(Line, u64)>> {
    let step = prop_oneof![8 => 0_u64..300_000, 1 => 0_u64..4_000_000];
    proptest::collection::vec((event(), step, 0..late_us), 0..120).prop_map(|events| {
        let mut us = 0;
        let mut lines = vec![(line(1, 0, start()), 0)];
        for (seq, (event, step, late)) in (2..).zip(events) {
            us += step;
            lines.push((line(seq, us, event), us + late));
        }
        lines
    })
}

fn verdicts<'a>(limits: Limits, lines: impl IntoIterator<Item = &'a Line>) -> Vec<Verdict> {
    let mut correlator = Correlator::new(limits);
    let mut verdicts: Vec<_> =
        lines.into_iter().flat_map(|line| correlator.observe(line)).collect();
    verdicts.extend(correlator.finish());
    verdicts
}

fn by_error(verdicts: Vec<Verdict>) -> BTreeMap<u64, Verdict> {
    verdicts.into_iter().map(|verdict| (verdict.integrity_seq, verdict)).collect()
}

proptest! {
    #[test]
    fn reordering_by_less_than_the_slack_changes_nothing(lines in stream(1_000_000)) {
        let limits = Limits::default();
        let ordered = by_error(verdicts(limits, lines.iter().map(|(line, _)| line)));
        let mut late = lines;
        late.sort_by_key(|(_, us)| *us);
        let reordered = by_error(verdicts(limits, late.iter().map(|(line, _)| line)));
        prop_assert_eq!(ordered, reordered);
    }

    /// A live run settles whenever the ring buffer is empty; a report never does.
    #[test]
    fn settling_between_lines_changes_nothing(
        lines in stream(1),
        cuts in proptest::collection::vec(any::<bool>(), 130),
    ) {
        let limits = Limits::default();
        let whole = verdicts(limits, lines.iter().map(|(line, _)| line));
        let mut correlator = Correlator::new(limits);
        let mut batched = Vec::new();
        for ((line, us), cut) in lines.iter().zip(cuts) {
            batched.extend(correlator.observe(line));
            if cut {
                batched.extend(correlator.settle(ns(*us)));
            }
        }
        batched.extend(correlator.finish());
        prop_assert_eq!(whole, batched);
    }

    #[test]
    fn every_error_has_one_verdict_and_memory_is_bounded(
        lines in stream(3_000_000),
        max_events in 1_usize..20,
    ) {
        let limits = Limits { max_events, ..Limits::default() };
        let mut late = lines;
        late.sort_by_key(|(_, us)| *us);
        let mut correlator = Correlator::new(limits);
        let mut verdicts = Vec::new();
        for (line, _) in &late {
            verdicts.extend(correlator.observe(line));
            let history = &correlator.history;
            for index in [&history.stalls, &history.rewrites, &history.errors] {
                prop_assert!(index.len() <= max_events);
            }
            prop_assert!(correlator.pending.len() <= (max_events / 4).max(1));
        }
        verdicts.extend(correlator.finish());
        let errors: Vec<_> = late
            .iter()
            .filter(|(line, _)| matches!(line.event, Event::Integrity(_)))
            .map(|(line, _)| line.seq)
            .collect();
        let mut judged: Vec<_> = verdicts.iter().map(|verdict| verdict.integrity_seq).collect();
        judged.sort_unstable();
        let mut expected = errors;
        expected.sort_unstable();
        prop_assert_eq!(judged, expected);
        for verdict in verdicts {
            prop_assert!((0.0..=1.0).contains(&verdict.confidence));
            prop_assert!(verdict.evidence.len() <= error_context::MAX_EVIDENCE);
            prop_assert!(verdict.evidence.contains(&verdict.integrity_seq));
            prop_assert!(verdict.evidence.iter().all(|seq| (1..=late.len() as u64).contains(seq)));
            prop_assert!(!verdict.explanation.is_empty());
            prop_assert!(verdict.stalls_same_page <= verdict.stalls_same_file);
            prop_assert!(verdict.stalls_same_file <= verdict.stalls_same_device);
        }
    }
}
