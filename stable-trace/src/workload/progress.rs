//! Formats workload events as text, one line for each event.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use stable_trace_analysis::event::{Workload, WorkloadState};

/// Keeps the counts of the previous event, from which it computes rates.
#[derive(Debug)]
pub(crate) struct ProgressFormatter {
    started: Instant,
    /// Time, operations and bytes.
    previous: (Instant, u64, u64),
}

impl ProgressFormatter {
    pub(crate) fn new(now: Instant) -> Self {
        Self { started: now, previous: (now, 0, 0) }
    }

    /// Formats an event that was received at `now`, without a newline. Rates are those since the
    /// previous event; for `finished`, those of the whole profile.
    pub(crate) fn line(&mut self, event: &Workload, now: Instant) -> String {
        let Workload { operations, bytes, .. } = *event;
        let (since, from) = match event.state {
            WorkloadState::Started => {
                *self = Self::new(now);
                return format!(
                    "wac {}: {} threads rewrite {}",
                    event.profile,
                    event.threads,
                    format_size(event.file_size)
                );
            }
            WorkloadState::Progress => (self.previous.0, (self.previous.1, self.previous.2)),
            WorkloadState::Finished => (self.started, (0, 0)),
        };
        self.previous = (now, operations, bytes);
        let time = now.duration_since(since);
        let mut line = format!(
            "wac {}: {:.0} s{}, {operations} operations, {}/s, {}/s",
            event.profile,
            now.duration_since(self.started).as_secs_f64(),
            if event.state == WorkloadState::Finished { ", finished" } else { "" },
            per_second(operations.saturating_sub(from.0), time),
            format_size(per_second(bytes.saturating_sub(from.1), time)),
        );
        if !event.errors.is_empty() {
            line.push_str(", errors:");
            for (name, count) in &event.errors {
                // Writing to a String cannot fail.
                let _ = write!(line, " {count} {name}");
            }
        }
        line
    }
}

fn per_second(count: u64, time: Duration) -> u64 {
    let nanos = time.as_nanos().max(1);
    u64::try_from(u128::from(count) * 1_000_000_000 / nanos).unwrap_or(u64::MAX)
}

/// Formats bytes with a binary unit, rounded down to one decimal.
pub(crate) fn format_size(bytes: u64) -> String {
    for (shift, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if bytes >> shift > 0 {
            let tenths = (u128::from(bytes) * 10) >> shift;
            return match (tenths / 10, tenths % 10) {
                (whole, 0) => format!("{whole} {unit}"),
                (whole, tenth) => format!("{whole}.{tenth} {unit}"),
            };
        }
    }
    format!("{bytes} B")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(state: WorkloadState, operations: u64) -> Workload {
        Workload {
            state,
            profile: "a".into(),
            threads: 64,
            file_size: 65_536,
            operations,
            bytes: operations * 4096,
            ..Workload::default()
        }
    }

    #[test]
    fn each_event_is_one_line() {
        let start = Instant::now();
        let mut progress = ProgressFormatter::new(start);
        let mut at = |second: u64, event: &Workload| {
            progress.line(event, start + Duration::from_secs(10 + second))
        };
        assert_eq!(at(0, &event(WorkloadState::Started, 0)), "wac a: 64 threads rewrite 64 KiB");
        assert_eq!(
            at(1, &event(WorkloadState::Progress, 1000)),
            "wac a: 1 s, 1000 operations, 1000/s, 3.9 MiB/s"
        );
        let mut failing = event(WorkloadState::Progress, 1100);
        failing.errors.insert("ENOSPC".into(), 7);
        assert_eq!(
            at(2, &failing),
            "wac a: 2 s, 1100 operations, 100/s, 400 KiB/s, errors: 7 ENOSPC"
        );
        assert_eq!(
            at(4, &event(WorkloadState::Finished, 4000)),
            "wac a: 4 s, finished, 4000 operations, 1000/s, 3.9 MiB/s"
        );
    }

    #[test]
    fn an_interval_of_zero_does_not_panic() {
        let now = Instant::now();
        let mut progress = ProgressFormatter::new(now);
        progress.line(&event(WorkloadState::Finished, u64::MAX / 4096), now);
        assert_eq!(format_size(0), "0 B");
        assert_eq!(format_size(1 << 30), "1 GiB");
    }
}
