//! Kernel time to wall-clock time.

use rustix::time::{ClockId, clock_gettime};
use stable_trace_analysis::units::{MonotonicTime, Timestamp};

/// Readings of the wall clock that take no longer than this are taken for one moment.
const CLOSE_NS: u64 = 5_000;

/// How often it is tried; a slow clock, as in an emulated guest, is never that close.
const READINGS: u32 = 4;

/// The current time of `CLOCK_MONOTONIC`, the clock that `bpf_ktime_get_ns` reads.
#[must_use]
pub fn monotonic() -> MonotonicTime {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let ns = u64::try_from(now.tv_nsec).unwrap_or(0);
    MonotonicTime::from_ns(seconds.saturating_mul(1_000_000_000).saturating_add(ns))
}

/// The wall-clock time of a kernel time. It is computed from the age of the kernel time, so that
/// times after the wall clock was set follow the new setting.
#[must_use]
pub fn wall_time(time: MonotonicTime) -> Timestamp {
    let (now, wall) = both_now();
    let wall = if time <= now {
        wall.unix_ns().saturating_sub(now.ns() - time.ns())
    } else {
        wall.unix_ns().saturating_add(time.ns() - now.ns())
    };
    Timestamp::from_unix_ns(wall)
}

/// Both clocks at one moment, as near as possible: the thread may be preempted between two readings.
fn both_now() -> (MonotonicTime, Timestamp) {
    let mut best: Option<(u64, MonotonicTime, Timestamp)> = None;
    for _ in 0..READINGS {
        let before = monotonic().ns();
        let wall = Timestamp::now();
        let apart = monotonic().ns().saturating_sub(before);
        if best.is_none_or(|(least, ..)| apart < least) {
            best = Some((apart, MonotonicTime::from_ns(before + apart / 2), wall));
        }
        if apart < CLOSE_NS {
            break;
        }
    }
    best.map_or_else(|| (monotonic(), Timestamp::now()), |(_, now, wall)| (now, wall))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_ago_is_a_second_before_now() {
        let ago = wall_time(MonotonicTime::from_ns(monotonic().ns() - 1_000_000_000));
        let behind = Timestamp::now().unix_ns() - ago.unix_ns();
        assert!(behind >= 999_000_000, "{behind}");
        assert!(behind < 60_000_000_000, "{behind}");
    }
}
