//! Formats numbers, times and names for the page.

use stable_trace_common::histogram::upper_bound_ns;

use crate::{sink::format::duration, units::Timestamp};

/// A number with a narrow no-break space between groups of three digits.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// A name, or a dash if it is unknown.
pub(super) fn or_dash(name: Option<&str>) -> &str {
    name.unwrap_or("–")
}

/// The inode of a file, or what stands for it where there is none.
pub(super) fn inode(ino: Option<u64>) -> String {
    ino.map_or_else(|| "a file without an inode".to_owned(), |ino| format!("inode {ino}"))
}

/// A signed duration.
pub(super) fn lag(ns: i64) -> String {
    let sign = if ns < 0 { "−" } else { "+" };
    format!("{sign}{}", duration(ns.unsigned_abs()))
}

/// The time of the day with milliseconds.
pub(super) fn time_of_day(time: Timestamp) -> String {
    let mut text = time.time_of_day();
    text.truncate("03:04:05.006".len());
    text
}

/// The durations of a histogram bucket.
pub(super) fn bucket_durations(bucket: usize) -> String {
    let from = bucket.checked_sub(1).and_then(upper_bound_ns).unwrap_or(0);
    match upper_bound_ns(bucket) {
        Some(to) => format!("{} to {}", duration(from), duration(to)),
        None => format!("more than {}", duration(from)),
    }
}

/// The lower edge of a histogram bucket, for an axis.
pub(super) fn bucket_edge(bucket: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a bucket's index")]
    let bucket = bucket.round().max(0.0) as usize;
    match bucket.checked_sub(1).and_then(upper_bound_ns) {
        None => "0".to_owned(),
        Some(ns) => short_duration(ns),
    }
}

/// A duration with at most one decimal place: `16µs`, `1ms`, `2.1s`.
fn short_duration(ns: u64) -> String {
    let (unit, name) = match ns {
        1_000_000_000.. => (1_000_000_000, "s"),
        1_000_000.. => (1_000_000, "ms"),
        _ => (1_000, "µs"),
    };
    let tenths = (ns * 10 + unit / 2) / unit;
    if tenths >= 100 || tenths.is_multiple_of(10) {
        format!("{}{name}", (tenths + 5) / 10)
    } else {
        format!("{}.{}{name}", tenths / 10, tenths % 10)
    }
}

/// Seconds since the start of the run, as precise as `step`: `1.5s`, `2:05`, `1:02:05`.
pub(super) fn elapsed(s: f64, step: f64) -> String {
    if s < 60.0 {
        let places = if step >= 1.0 {
            0
        } else if step >= 0.1 {
            1
        } else {
            3
        };
        return format!("{s:.places$}s");
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "is not below 60")]
    let whole = s.round() as u64;
    let (hours, minutes, seconds) = (whole / 3600, whole / 60 % 60, whole % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes}:{seconds:02}")
    }
}

#[expect(clippy::cast_precision_loss, reason = "bins and buckets are few")]
pub(super) const fn float(number: usize) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(1_234_567), "1\u{202f}234\u{202f}567");
    }

    #[test]
    fn times_are_in_seconds_then_minutes_then_hours() {
        assert_eq!(
            [elapsed(1.5, 0.1), elapsed(125.0, 1.0), elapsed(3725.0, 1.0)],
            ["1.5s", "2:05", "1:02:05"]
        );
    }

    #[test]
    fn bucket_edges_are_short() {
        let edges: Vec<_> = [0, 1, 5, 11, 12, 15, 21, 22]
            .iter()
            .map(|bucket| bucket_edge(float(*bucket)))
            .collect();
        assert_eq!(edges, ["0", "1µs", "16µs", "1ms", "2ms", "16ms", "1s", "2.1s"]);
    }
}
