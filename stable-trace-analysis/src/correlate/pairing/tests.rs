use proptest::prelude::*;

use super::*;
use crate::{
    correlate::sample::{failure, page},
    event::Page,
};

const INO: u64 = 12;
const PID: u32 = 41;

fn at(ms: u64) -> Timestamp {
    Timestamp::from_unix_ns(ms * 1_000_000)
}

fn workload(ms: u64, state: WorkloadState, failed: &[(&str, &str, u64)]) -> Line {
    let mut all = FailedCalls::new();
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
    Line { seq: 1, time: at(ms), monotonic_ns: None, event: Event::Workload(workload) }
}

fn error(ms: u64, ino: Option<u64>, pid: Option<u32>) -> Line {
    let page = Page { ino, ..page(("sda", 0, 3), None) };
    let error = IntegrityError { pid, ..failure("sda", 8, vec![page]) };
    Line { seq: 1, time: at(ms), monotonic_ns: None, event: Event::Integrity(error) }
}

fn result(lines: &[Line]) -> Vec<WorkloadErrors> {
    let mut pairing = Pairing::default();
    for line in lines {
        pairing.observe(line);
    }
    pairing.result()
}

const EILSEQ: (&str, &str) = ("sync_file_range", "EILSEQ");

fn failed(count: u64) -> [(&'static str, &'static str, u64); 1] {
    [(EILSEQ.0, EILSEQ.1, count)]
}

/// The ring buffer was read before the output of the workload.
#[test]
fn errors_may_arrive_before_the_first_workload_line() {
    use WorkloadState::{Finished, Started};
    let found = result(&[
        error(900, Some(INO), None),
        error(1100, Some(INO), None),
        error(1200, None, Some(PID + 1)),
        workload(1000, Started, &[]),
        workload(2000, Finished, &failed(1)),
        error(2100, Some(INO), None),
        workload(2050, Started, &[]),
    ]);
    let counts: Vec<_> =
        found.iter().map(|it| (it.integrity_errors, it.integrity_errors_own)).collect();
    assert_eq!(counts, [(2, 1), (1, 1)]);
}

#[test]
fn the_number_of_unclaimed_errors_is_bounded() {
    let mut pairing = Pairing::default();
    for ms in 0..5_000 {
        pairing.observe(&error(ms, Some(INO), None));
    }
    assert_eq!(pairing.unclaimed.len(), MAX_UNCLAIMED);
    pairing.observe(&workload(4_990, WorkloadState::Started, &[]));
    assert_eq!(pairing.result()[0].integrity_errors, 10);
    assert!(pairing.unclaimed.is_empty());
}

#[test]
fn failed_calls_are_paired_with_the_errors_of_their_interval() {
    use WorkloadState::{Finished, Progress, Started};
    let found = result(&[
        error(500, Some(INO), None),
        workload(1000, Started, &[]),
        error(1200, Some(INO), None),
        error(1300, Some(99), Some(PID)),
        workload(2000, Progress, &failed(2)),
        // It arrives late: its time is in the first interval.
        error(1900, Some(99), Some(77)),
        workload(3000, Progress, &failed(2)),
        error(3500, Some(INO), None),
        workload(4000, Finished, &failed(3)),
        error(4500, Some(INO), None),
    ]);
    let [found] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(found.failed[EILSEQ.0][EILSEQ.1], 3);
    assert_eq!((found.integrity_errors, found.integrity_errors_own), (4, 3));
    let intervals: Vec<_> = found
        .intervals
        .iter()
        .map(|it| {
            let calls = it.failed.values().flat_map(|errors| errors.values()).sum::<u64>();
            (it.from, calls, it.integrity_errors, it.integrity_errors_own)
        })
        .collect();
    assert_eq!(intervals, [(at(1000), 2, 3, 2), (at(3000), 1, 1, 1)]);
    assert_eq!(found.intervals[1].to, at(4000));
}

#[test]
fn a_profile_without_failures_is_omitted() {
    use WorkloadState::{Finished, Started};
    assert_eq!(result(&[workload(1000, Started, &[]), workload(2000, Finished, &[])]), []);
    assert_eq!(result(&[error(1, None, None)]), []);
    assert_eq!(result(&[workload(1000, Finished, &failed(3))]), []);
}

#[test]
fn profiles_are_counted_separately() {
    use WorkloadState::{Finished, Started};
    let found = result(&[
        workload(1000, Started, &[]),
        workload(2000, Finished, &failed(1)),
        workload(3000, Started, &[]),
        error(1500, Some(INO), None),
        error(3500, Some(INO), None),
        error(3600, Some(INO), None),
        workload(4000, Finished, &failed(2)),
    ]);
    let counts: Vec<_> = found.iter().map(|found| found.integrity_errors).collect();
    assert_eq!(counts, [1, 2]);
    assert_eq!(found[1].failed[EILSEQ.0][EILSEQ.1], 2, "each counts from its start");
}

#[test]
fn a_long_run_keeps_its_totals_in_bounded_memory() {
    let mut pairing = Pairing::default();
    pairing.observe(&workload(0, WorkloadState::Started, &[]));
    let seconds = 3 * MAX_INTERVALS as u64;
    for second in 1..=seconds {
        pairing.observe(&error(second * 1000 - 500, Some(INO), None));
        pairing.observe(&workload(second * 1000, WorkloadState::Progress, &failed(second)));
    }
    let found = pairing.result();
    assert_eq!(found[0].failed[EILSEQ.0][EILSEQ.1], seconds);
    assert_eq!(found[0].integrity_errors_own, seconds);
    assert!(found[0].intervals.len() <= MAX_INTERVALS, "{}", found[0].intervals.len());
}

proptest! {
    /// Compares with totals over the whole run, for lines in any order.
    #[test]
    fn the_intervals_add_up_to_the_run(
        steps in prop::collection::vec((0..3_u8, 1..500_u64, 0..5_u64), 1..60),
    ) {
        let mut lines = vec![workload(0, WorkloadState::Started, &[])];
        let (mut now, mut failures, mut errors) = (0, 0, 0);
        for (kind, ms, count) in steps {
            now += ms;
            match kind {
                0 => {
                    failures += count;
                    lines.push(workload(now, WorkloadState::Progress, &failed(failures)));
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
        lines.push(workload(now + 1, WorkloadState::Finished, &failed(failures)));
        let found = result(&lines);
        let found = found.first().cloned().unwrap_or_default();
        let total = |failed: &FailedCalls| failed.values().flat_map(|all| all.values()).sum::<u64>();
        prop_assert_eq!(total(&found.failed), failures);
        prop_assert_eq!(found.integrity_errors, errors);
        let by_time: u64 = found.intervals.iter().map(|interval| total(&interval.failed)).sum();
        prop_assert_eq!(by_time, failures);
    }
}
