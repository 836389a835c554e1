use proptest::prelude::*;

use super::*;
use crate::{
    event::{Check, Operation, Page, PageKind, Source},
    units::DeviceId,
};

const INO: u64 = 12;
const PID: u32 = 41;

fn at(ms: u64) -> Timestamp {
    Timestamp::from_unix_ns(ms * 1_000_000)
}

fn word(ms: u64, state: WorkloadState, failed: &[(&str, &str, u64)]) -> Line {
    let mut all = Failed::new();
    for (call, name, count) in failed {
        all.entry((*call).to_owned()).or_default().insert((*name).to_owned(), *count);
    }
    let workload = Workload {
        state,
        profile: "a".to_owned(),
        failed: all,
        pid: Some(PID),
        ino: Some(INO),
        ..Workload::default()
    };
    Line { seq: 1, time: at(ms), event: Event::Workload(workload) }
}

fn error(ms: u64, ino: Option<u64>, pid: Option<u32>) -> Line {
    let page = Page {
        kind: PageKind::File,
        ino,
        index: Some(3),
        device: None,
        dev: None,
        fs: None,
        stable: None,
    };
    let error = IntegrityError {
        op: Operation::Write,
        device: Some("sda".to_owned()),
        dev: Some(DeviceId::new(8, 0)),
        sector: 8,
        sectors: 8,
        check: Check::Guard,
        source: Source::Scsi,
        status: "EILSEQ".to_owned(),
        pages: vec![page],
        pages_total: None,
        fs: None,
        path: None,
        pid,
        tid: None,
        comm: None,
    };
    Line { seq: 1, time: at(ms), event: Event::Integrity(error) }
}

fn result(lines: &[Line]) -> Vec<WorkloadErrors> {
    let mut pairing = Pairing::default();
    for line in lines {
        pairing.observe(line);
    }
    pairing.result()
}

const EILSEQ: (&str, &str) = ("sync_file_range", "EILSEQ");

fn refused(count: u64) -> [(&'static str, &'static str, u64); 1] {
    [(EILSEQ.0, EILSEQ.1, count)]
}

/// The kernel's ring was read before the workload's output.
#[test]
fn errors_may_come_before_the_first_word() {
    use WorkloadState::{Finished, Started};
    let found = result(&[
        error(900, Some(INO), None),
        error(1100, Some(INO), None),
        error(1200, None, Some(PID + 1)),
        word(1000, Started, &[]),
        word(2000, Finished, &refused(1)),
        error(2100, Some(INO), None),
        word(2050, Started, &[]),
    ]);
    let counts: Vec<_> =
        found.iter().map(|it| (it.integrity_errors, it.integrity_errors_own)).collect();
    assert_eq!(counts, [(2, 1), (1, 1)]);
}

#[test]
fn errors_that_nobody_claims_are_not_kept_for_ever() {
    let mut pairing = Pairing::default();
    for ms in 0..5_000 {
        pairing.observe(&error(ms, Some(INO), None));
    }
    assert_eq!(pairing.unclaimed.len(), MOST_UNCLAIMED);
    pairing.observe(&word(4_990, WorkloadState::Started, &[]));
    assert_eq!(pairing.result()[0].integrity_errors, 10);
    assert!(pairing.unclaimed.is_empty());
}

#[test]
fn refusals_stand_beside_the_errors_of_their_time() {
    use WorkloadState::{Finished, Progress, Started};
    let found = result(&[
        error(500, Some(INO), None),
        word(1000, Started, &[]),
        error(1200, Some(INO), None),
        error(1300, Some(99), Some(PID)),
        word(2000, Progress, &refused(2)),
        // It comes late: its time is that of the first second.
        error(1900, Some(99), Some(77)),
        word(3000, Progress, &refused(2)),
        error(3500, Some(INO), None),
        word(4000, Finished, &refused(3)),
        error(4500, Some(INO), None),
    ]);
    let [found] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(found.failed[EILSEQ.0][EILSEQ.1], 3);
    assert_eq!((found.integrity_errors, found.integrity_errors_own), (4, 3));
    let intervals: Vec<_> = found
        .intervals
        .iter()
        .map(|it| {
            let refused = it.failed.values().flat_map(|errors| errors.values()).sum::<u64>();
            (it.from, refused, it.integrity_errors, it.integrity_errors_own)
        })
        .collect();
    assert_eq!(intervals, [(at(1000), 2, 3, 2), (at(3000), 1, 1, 1)]);
    assert_eq!(found.intervals[1].to, at(4000));
}

#[test]
fn where_nothing_failed_nothing_is_said() {
    use WorkloadState::{Finished, Started};
    assert_eq!(result(&[word(1000, Started, &[]), word(2000, Finished, &[])]), []);
    assert_eq!(result(&[error(1, None, None)]), []);
    assert_eq!(result(&[word(1000, Finished, &refused(3))]), []);
}

#[test]
fn each_profile_has_its_own() {
    use WorkloadState::{Finished, Started};
    let found = result(&[
        word(1000, Started, &[]),
        word(2000, Finished, &refused(1)),
        word(3000, Started, &[]),
        error(1500, Some(INO), None),
        error(3500, Some(INO), None),
        error(3600, Some(INO), None),
        word(4000, Finished, &refused(2)),
    ]);
    let counts: Vec<_> = found.iter().map(|found| found.integrity_errors).collect();
    assert_eq!(counts, [1, 2]);
    assert_eq!(found[1].failed[EILSEQ.0][EILSEQ.1], 2, "each counts from its start");
}

#[test]
fn a_long_run_keeps_its_sums_in_a_bounded_room() {
    let mut pairing = Pairing::default();
    pairing.observe(&word(0, WorkloadState::Started, &[]));
    let seconds = 3 * MOST as u64;
    for second in 1..=seconds {
        pairing.observe(&error(second * 1000 - 500, Some(INO), None));
        pairing.observe(&word(second * 1000, WorkloadState::Progress, &refused(second)));
    }
    let found = pairing.result();
    assert_eq!(found[0].failed[EILSEQ.0][EILSEQ.1], seconds);
    assert_eq!(found[0].integrity_errors_own, seconds);
    assert!(found[0].intervals.len() <= MOST, "{}", found[0].intervals.len());
}

proptest! {
    /// Against sums over the whole run, whatever comes in whatever order.
    #[test]
    fn the_intervals_sum_up_to_the_run(
        steps in prop::collection::vec((0..3_u8, 1..500_u64, 0..5_u64), 1..60),
    ) {
        let mut lines = vec![word(0, WorkloadState::Started, &[])];
        let (mut now, mut refusals, mut errors) = (0, 0, 0);
        for (kind, ms, count) in steps {
            now += ms;
            match kind {
                0 => {
                    refusals += count;
                    lines.push(word(now, WorkloadState::Progress, &refused(refusals)));
                }
                1 => {
                    errors += 1;
                    lines.push(error(now, Some(INO), None));
                }
                _ => {
                    errors += 1;
                    lines.push(error(now / 2, Some(INO), None));
                }
            }
        }
        lines.push(word(now + 1, WorkloadState::Finished, &refused(refusals)));
        let found = result(&lines);
        let found = found.first().cloned().unwrap_or_default();
        let total = |failed: &Failed| failed.values().flat_map(|all| all.values()).sum::<u64>();
        prop_assert_eq!(total(&found.failed), refusals);
        prop_assert_eq!(found.integrity_errors, errors);
        let by_time: u64 = found.intervals.iter().map(|interval| total(&interval.failed)).sum();
        prop_assert_eq!(by_time, refusals);
    }
}
