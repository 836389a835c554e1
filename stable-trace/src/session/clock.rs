//! Kernel time to wall-clock time.

use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, clock_gettime};

/// Readings of the wall clock that take no longer than this are taken for one moment.
const CLOSE_NS: u64 = 5_000;

/// How often it is tried; a slow clock, as in an emulated guest, is never that close.
const READINGS: u32 = 4;

/// `CLOCK_MONOTONIC` now, in ns: what `bpf_ktime_get_ns` reads.
#[must_use]
pub fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec)
        .unwrap_or(0)
        .saturating_mul(1_000_000_000)
        .saturating_add(u64::try_from(now.tv_nsec).unwrap_or(0))
}

/// The wall-clock time of a kernel time, as RFC 3339 in UTC with nanoseconds. Computed from how
/// long ago it was, so that a wall clock that was set in between is right from then on.
#[must_use]
pub fn wall_time(kernel_ns: u64) -> String {
    let (now, wall) = both_now();
    let wall = if kernel_ns <= now {
        wall.checked_sub(Duration::from_nanos(now - kernel_ns))
    } else {
        wall.checked_add(Duration::from_nanos(kernel_ns - now))
    };
    rfc3339(wall.unwrap_or(SystemTime::UNIX_EPOCH))
}

/// Both clocks at one moment, as near as it goes. On a busy machine this thread may be off its CPU
/// between two readings, and every line would be off by as much as that took.
fn both_now() -> (u64, SystemTime) {
    let mut best: Option<(u64, u64, SystemTime)> = None;
    for _ in 0..READINGS {
        let before = monotonic_ns();
        let wall = SystemTime::now();
        let apart = monotonic_ns().saturating_sub(before);
        if best.is_none_or(|(least, ..)| apart < least) {
            best = Some((apart, before + apart / 2, wall));
        }
        if apart < CLOSE_NS {
            break;
        }
    }
    best.map_or_else(|| (monotonic_ns(), SystemTime::now()), |(_, now, wall)| (now, wall))
}

/// A wall-clock time as RFC 3339 in UTC with nanoseconds.
#[must_use]
pub fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_nanos(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_ago_is_a_second_before_now() {
        let ago = humantime::parse_rfc3339(&wall_time(monotonic_ns() - 1_000_000_000)).unwrap();
        let behind = SystemTime::now().duration_since(ago).unwrap();
        assert!(behind >= Duration::from_millis(999), "{behind:?}");
        assert!(behind < Duration::from_mins(1), "{behind:?}");
    }

    #[test]
    fn the_form_is_rfc_3339_with_nanoseconds() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_nanos(1_000_000_006);
        assert_eq!(rfc3339(time), "1970-01-01T00:00:01.000000006Z");
    }
}
