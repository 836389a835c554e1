//! Waits that last long: each is reported once while it lasts, and once when it is over. Pure.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use stable_trace_analysis::event::Waiting;
use stable_trace_common::waiter::Waiter;

/// How often long waits are looked for.
const INTERVAL: Duration = Duration::from_secs(1);

/// Waits that are reported at once, at most.
const MOST: usize = 1_024;

/// A task, as `tgid` and `pid`, and when its wait began.
type WaitId = (u64, u64);

/// Which waits have been reported.
pub(super) struct LongWaits {
    /// `--stuck-after`, in ns.
    after_ns: u64,
    reported: HashMap<WaitId, Waiting>,
    checked_at: Instant,
}

impl LongWaits {
    pub(super) fn new(after: Duration) -> Self {
        Self {
            after_ns: u64::try_from(after.as_nanos()).unwrap_or(u64::MAX),
            reported: HashMap::new(),
            checked_at: Instant::now(),
        }
    }

    /// Whether it is time to look again.
    pub(super) fn are_due(&mut self) -> bool {
        let due = self.checked_at.elapsed() >= INTERVAL;
        if due {
            self.checked_at = Instant::now();
        }
        due
    }

    /// Takes all waits of this moment, `now` by `CLOCK_MONOTONIC` in ns. Returns those to report: long ones that have
    /// not been reported, as `describe` makes them, and those that were reported and are over.
    pub(super) fn update(
        &mut self,
        now: u64,
        waiters: Vec<Waiter>,
        mut describe: impl FnMut(&Waiter) -> Option<Waiting>,
    ) -> Vec<Waiting> {
        let mut reports = Vec::new();
        let mut over = std::mem::take(&mut self.reported);
        for waiter in waiters {
            if now.saturating_sub(waiter.begin_ns) < self.after_ns {
                continue;
            }
            let id = (waiter.pid_tgid, waiter.begin_ns);
            if let Some(reported) = over.remove(&id) {
                self.reported.insert(id, reported);
            } else if self.reported.len() < MOST
                && let Some(waiting) = describe(&waiter)
            {
                reports.push(waiting.clone());
                self.reported.insert(id, waiting);
            }
        }
        reports.extend(over.into_iter().map(|((_, begin_ns), waiting)| Waiting {
            ended: true,
            age_ns: now.saturating_sub(begin_ns),
            ..waiting
        }));
        reports
    }
}

#[cfg(test)]
mod tests {
    use stable_trace_common::task::process_and_thread;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn waiter(pid_tgid: u64, begin_ns: u64) -> Waiter {
        Waiter { pid_tgid, begin_ns, ..Waiter::NEW }
    }

    /// The threads, ages and ends of what is reported.
    fn update(waits: &mut LongWaits, now: u64, waiters: &[Waiter]) -> Vec<(u32, u64, bool)> {
        let reports = waits.update(now, waiters.to_vec(), |waiter| {
            let (_, tid) = process_and_thread(waiter.pid_tgid);
            let age_ns = now - waiter.begin_ns;
            let json = format!(
                r#"{{"context":"sync","function":"f","age_ns":{age_ns},"pid":1,"tid":{tid},"comm":"c","index":0}}"#
            );
            serde_json::from_str(&json).unwrap()
        });
        reports.into_iter().map(|waiting| (waiting.tid, waiting.age_ns, waiting.ended)).collect()
    }

    #[test]
    fn a_long_wait_is_reported_once_and_once_more_when_it_is_over() {
        let mut waits = LongWaits::new(Duration::from_secs(10));
        let (long, short) = (waiter(7, SECOND), waiter(8, 5 * SECOND));
        assert_eq!(update(&mut waits, 10 * SECOND, &[long, short]), []);
        assert_eq!(update(&mut waits, 11 * SECOND, &[long, short]), [(7, 10 * SECOND, false)]);
        assert_eq!(update(&mut waits, 12 * SECOND, &[long, short]), []);
        assert_eq!(update(&mut waits, 13 * SECOND, &[short]), [(7, 12 * SECOND, true)]);
        assert_eq!(update(&mut waits, 14 * SECOND, &[]), []);
    }

    #[test]
    fn the_next_wait_of_a_task_is_another_one() {
        let mut waits = LongWaits::new(Duration::from_secs(1));
        assert_eq!(update(&mut waits, SECOND, &[waiter(7, 0)]), [(7, SECOND, false)]);
        let mut reports = update(&mut waits, 4 * SECOND, &[waiter(7, 2 * SECOND)]);
        reports.sort_unstable();
        assert_eq!(reports, [(7, 2 * SECOND, false), (7, 4 * SECOND, true)]);
    }

    #[test]
    fn what_is_reported_at_once_is_bounded() {
        let mut waits = LongWaits::new(Duration::ZERO);
        let many: Vec<_> = (0..3_000).map(|task| waiter(task, 0)).collect();
        assert_eq!(update(&mut waits, SECOND, &many).len(), MOST);
        assert_eq!(update(&mut waits, 2 * SECOND, &many), []);
        assert_eq!(update(&mut waits, 3 * SECOND, &[]).len(), MOST);
    }
}
