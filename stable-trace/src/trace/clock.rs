//! Converts times of the kernel's monotonic clock to wall-clock time.

use rustix::time::{ClockId, clock_gettime};
use stable_trace_analysis::units::{MonotonicTime, Timestamp};

/// Two readings of the monotonic clock this close together are good enough.
const CLOSE_NS: u64 = 5_000;

/// Attempts to get close readings; a slow clock, as in an emulated guest, never gives them.
const ATTEMPTS: u32 = 4;

/// The current time of `CLOCK_MONOTONIC`, the clock that `bpf_ktime_get_ns` reads.
pub(super) fn monotonic() -> MonotonicTime {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let ns = u64::try_from(now.tv_nsec).unwrap_or(0);
    MonotonicTime::from_ns(seconds.saturating_mul(1_000_000_000).saturating_add(ns))
}

/// The monotonic time of a wall-clock time, by its age.
pub(super) fn monotonic_time(time: Timestamp) -> MonotonicTime {
    let (now, wall) = both_now();
    let (time, wall) = (time.unix_ns(), wall.unix_ns());
    MonotonicTime::from_ns(if time <= wall {
        now.ns().saturating_sub(wall - time)
    } else {
        now.ns().saturating_add(time - wall)
    })
}

/// The wall-clock time of a monotonic time, by a recent reading of both clocks. It is computed from the age of the
/// monotonic time, so that it follows changes of the wall clock.
pub(super) fn wall_time(time: MonotonicTime, (now, wall): (MonotonicTime, Timestamp)) -> Timestamp {
    let wall = if time <= now {
        wall.unix_ns().saturating_sub(now.ns() - time.ns())
    } else {
        wall.unix_ns().saturating_add(time.ns() - now.ns())
    };
    Timestamp::from_unix_ns(wall)
}

/// Reads both clocks as close together as possible: the thread may be preempted between readings.
pub(super) fn both_now() -> (MonotonicTime, Timestamp) {
    let mut best: Option<(u64, MonotonicTime, Timestamp)> = None;
    for _ in 0..ATTEMPTS {
        let before = monotonic().ns();
        let wall = Timestamp::now();
        let elapsed = monotonic().ns().saturating_sub(before);
        if best.is_none_or(|(least, ..)| elapsed < least) {
            best = Some((elapsed, MonotonicTime::from_ns(before + elapsed / 2), wall));
        }
        if elapsed < CLOSE_NS {
            break;
        }
    }
    best.map_or_else(|| (monotonic(), Timestamp::now()), |(_, now, wall)| (now, wall))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_time_keeps_the_age_of_a_monotonic_time() {
        let ago = wall_time(MonotonicTime::from_ns(monotonic().ns() - 1_000_000_000), both_now());
        let behind = Timestamp::now().unix_ns() - ago.unix_ns();
        assert!(behind >= 999_000_000, "{behind}");
        assert!(behind < 60_000_000_000, "{behind}");
        let back = monotonic_time(ago).ns();
        assert!(back.abs_diff(monotonic().ns() - 1_000_000_000) < 60_000_000_000, "{back}");
    }
}
