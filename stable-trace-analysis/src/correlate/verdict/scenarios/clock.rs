//! When a verdict is given, and clocks that are set.

use super::*;

#[test]
fn a_verdict_is_given_when_it_is_due() {
    let mut correlator = Correlator::new(Limits::default());
    correlator.observe(&line(1, 0, start()));
    assert!(correlator.observe(&line(2, SECOND, write_of(STABLE, true))).is_empty());
    assert!(correlator.observe(&line(3, 9 * SECOND, lost(1))).is_empty(), "not a clock");
    assert!(correlator.observe(&line(4, 3 * SECOND - 1, stall(STABLE, 1))).is_empty());
    let due = correlator.observe(&line(5, 3 * SECOND, stall(STABLE, 1)));
    assert_eq!(due.len(), 1, "one second after the error, and one second of slack");
    correlator.observe(&line(6, 4 * SECOND, write_of(STABLE, true)));
    assert!(correlator.settle(ns(6 * SECOND) - 1).is_empty());
    assert_eq!(correlator.settle(ns(6 * SECOND)).len(), 1);
    assert!(correlator.finish().is_empty());
}

#[test]
fn a_clock_set_back_makes_the_cause_unknown() {
    let verdicts = verdicts([
        (3_600 * SECOND, write_of(STABLE, true)),
        (SECOND, write_of(STABLE, true)),
        (9 * SECOND, write_of(STABLE, true)),
    ]);
    let causes: Vec<_> = verdicts.iter().map(|verdict| verdict.cause).collect();
    assert_eq!(causes, [Cause::NoRewriteSeen, Cause::Unknown, Cause::NoRewriteSeen]);
}

/// One line far out of order is taken for a clock that was set. What was forgotten then is not "not seen".
#[test]
fn a_late_line_makes_the_cause_unknown() {
    let verdict = one([
        (60 * SECOND, rewrite(STABLE, Context::WriteBegin)),
        (50 * SECOND, stall(STABLE, 10)),
        (60 * SECOND + 10, write_of(STABLE, true)),
    ]);
    assert_eq!(verdict.cause, Cause::Unknown);
}

#[test]
fn a_late_line_of_the_monotonic_clock_changes_nothing() {
    let mut correlator = Correlator::new(Limits::default());
    for (seq, us, event) in [
        (1, SECOND, start()),
        (2, 60 * SECOND, rewrite(STABLE, Context::WriteBegin)),
        (3, 50 * SECOND, stall(STABLE, 10)),
        (4, 60 * SECOND + 10, write_of(STABLE, true)),
    ] {
        correlator.observe(&Line { monotonic_ns: Some(us * 1_000), ..line(seq, us, event) });
    }
    let verdicts = correlator.finish();
    assert_eq!(verdicts.len(), 1);
    assert_eq!(summary(&verdicts[0]), (Cause::PageRewrittenInFlight, 0.95));
}

#[test]
fn a_wall_clock_set_back_changes_nothing() {
    let mut correlator = Correlator::new(Limits::default());
    // The clock is set back by an hour between a rewrite and the error that it caused.
    for (seq, wall_us, monotonic_us, event) in [
        (1, 3_599 * SECOND, SECOND, start()),
        (2, 3_600 * SECOND, 2 * SECOND, rewrite(STABLE, Context::WriteBegin)),
        (3, SECOND, 2 * SECOND + 10, write_of(STABLE, true)),
    ] {
        let monotonic_ns = Some(monotonic_us * 1_000);
        correlator.observe(&Line { monotonic_ns, ..line(seq, wall_us, event) });
    }
    let verdicts = correlator.finish();
    assert_eq!(verdicts.len(), 1);
    assert_eq!(summary(&verdicts[0]), (Cause::PageRewrittenInFlight, 0.95));
}
