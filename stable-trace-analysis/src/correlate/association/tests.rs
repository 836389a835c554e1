//! Associations of streams with a known association.

use proptest::prelude::*;

use super::*;
use crate::correlate::sample::{failure, line, page, stall};

const SECOND: u64 = 1_000_000;

/// The associations of events at times in µs.
fn associations(events: impl IntoIterator<Item = (u64, Event)>) -> Vec<Association> {
    let mut associations = Associations::new(Duration::from_secs(5), Duration::from_secs(1));
    for (seq, (us, event)) in (1..).zip(events) {
        associations.observe(&line(seq, us, event));
    }
    associations.result()
}

fn error(device: &str) -> Event {
    Event::Integrity(failure(device, 8, vec![page(("loop0", 7, 7), Some(false))]))
}

/// When the errors of [`run`] occur, in tenths of a second: not in step with anything.
const ERRORS: [u64; 10] = [210, 930, 1_480, 2_390, 2_710, 3_340, 4_150, 4_420, 5_290, 5_770];

/// Ten minutes with ten stalls of 2 ms a second on each of two disks, and ten errors. Stalls of `sda` take 20 ms if they end in the second that begins 300 ms after an error.
fn run() -> Vec<(u64, Event)> {
    let mut events = Vec::new();
    for tenth in 0..6_000_u64 {
        let us = tenth * SECOND / 10;
        let slow = ERRORS.iter().any(|error| (error + 3..error + 13).contains(&tenth));
        events.push((us + 50_000, stall(("sda1", 1, tenth), if slow { 20_000 } else { 2_000 })));
        events.push((us + 50_001, stall(("sdb", 1, tenth), 2_000)));
        if ERRORS.contains(&tenth) {
            events.push((us + 50_002, error("sda")));
        }
    }
    events
}

#[test]
fn an_association_is_found() {
    let found = associations(run());
    let names: Vec<_> = found.iter().map(|one| one.device.as_deref()).collect();
    assert_eq!(names, [None, Some("loop0"), Some("sda")], "all disks, and each disk with errors");
    let sda = &found[2];
    assert!(!sda.too_few, "{sda:?}");
    assert_eq!(sda.integrity_errors, 10);
    // The bin of the error and 50 bins on each side, with one stall each.
    assert_eq!((sda.around.stalls, sda.elsewhere.stalls), (1_010, 4_990));
    assert!((sda.p99_ratio.unwrap() - 10.0).abs() < 1.3, "{sda:?}");
    assert!((sda.p50_ratio.unwrap() - 1.0).abs() < 0.13, "{sda:?}");
    // 100 of 1,010 are longer than all stalls elsewhere, the rest are tied: 0.5 + 0.5 * 100 / 1,010.
    assert!((sda.longer_probability.unwrap() - 0.549_505).abs() < 1e-6, "{sda:?}");
    // Shifts by less than the window leave the slow stalls around the errors.
    assert!((0.01..0.05).contains(&sda.p_value.unwrap()), "{sda:?}");
    let lag = sda.peak_lag_ns.unwrap();
    assert!((300_000_000..1_300_000_000).contains(&lag), "{sda:?}");
    assert!(sda.peak_correlation.unwrap() > 0.2, "{sda:?}");
}

#[test]
fn too_few_errors_or_stalls_are_not_compared() {
    assert_eq!(
        associations([(SECOND, stall(("sda", 1, 1), 5_000))]),
        [],
        "no errors, no association"
    );
    let reason = |events: Vec<(u64, Event)>| {
        let found = associations(events).remove(0);
        assert!(found.too_few, "{found:?}");
        assert_eq!((found.p_value, found.p50_ratio, found.peak_lag_ns), (None, None, None));
        found.too_few_reason.unwrap()
    };
    let two = vec![(SECOND, error("sda")), (2 * SECOND, error("sda"))];
    assert_eq!(reason(two), "integrity errors: 2, and 3 are needed");
    let errors = |at: u64| (0..3).map(move |n| (at * SECOND + n, error("sda")));
    let stalls =
        |at: u64, count| (0..count).map(move |n| (at * SECOND + n, stall(("sda", 1, 1), 9)));
    let lonely = errors(1).chain(stalls(60, 30)).collect();
    assert_eq!(reason(lonely), "streamed stalls around errors: 0, and 20 are needed");
    let near = errors(1).chain(stalls(2, 30)).chain(stalls(60, 19)).collect();
    assert_eq!(reason(near), "streamed stalls elsewhere: 19, and 20 are needed");
}

#[test]
fn memory_does_not_grow_with_the_run() {
    let mut associations = Associations::new(Duration::from_secs(5), Duration::from_secs(1));
    let mut most = 0;
    for tenth in 0..20_000_u64 {
        let device = format!("dm-{}", tenth % 100);
        associations.observe(&line(tenth, tenth * SECOND / 10, stall((&device, 1, 1), tenth)));
        most = most.max(associations.overall.bin_count());
    }
    // Two windows of 50 bins, the slack of 10, and the bins at both ends.
    assert!(most <= 2 * 50 + 10 + 3, "{most}");
    assert!(associations.by_disk.len() <= MAX_DISKS);
}

#[test]
fn a_clock_that_is_set_back_is_handled() {
    let back = run().into_iter().chain(run());
    let found = associations(back);
    let sda = &found[2];
    assert_eq!(sda.integrity_errors, 20);
    assert_eq!((sda.around.stalls, sda.elsewhere.stalls), (2_020, 9_980));
}

#[test]
fn the_json_form_is_exact() {
    for association in associations(run()) {
        let text = serde_json::to_string(&association).unwrap();
        assert_eq!(serde_json::from_str::<Association>(&text).unwrap(), association, "{text}");
    }
}

proptest! {
    #[test]
    fn reordering_by_less_than_the_slack_changes_nothing(
        events in proptest::collection::vec((0_u64..400_000, 0_u64..1_000_000, 0_u8..10), 0..300),
    ) {
        let mut us = 0;
        let mut lines: Vec<_> = (1..)
            .zip(events)
            .map(|(seq, (step, late, kind))| {
                us += step;
                let event = if kind == 0 { error("sda") } else { stall(("sda", 1, 1), us % 9_000) };
                (line(seq, us, event), us + late)
            })
            .collect();
        let result = |lines: &[(Line, u64)]| {
            let mut associations = Associations::new(Duration::from_secs(5), Duration::from_secs(1));
            for (line, _) in lines {
                associations.observe(line);
            }
            associations.result()
        };
        let ordered = result(&lines);
        lines.sort_by_key(|(_, late)| *late);
        prop_assert_eq!(ordered, result(&lines));
    }
}
