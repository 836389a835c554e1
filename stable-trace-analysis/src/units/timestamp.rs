//! Points in time, each with its clock.

use std::{
    fmt,
    str::FromStr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{saturating_ns, text_form};

/// A wall-clock time (`CLOCK_REALTIME`): nanoseconds since 1970 in UTC, up to the year 2554.
///
/// Its text form is RFC 3339 with nanoseconds, in serde and in [`fmt::Display`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

/// A time of the kernel's monotonic clock (`CLOCK_MONOTONIC`, `bpf_ktime_get_ns`): nanoseconds
/// since boot, without the time that the machine was suspended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MonotonicTime(u64);

impl Timestamp {
    /// The time this many nanoseconds after the start of 1970 in UTC.
    pub const fn from_unix_ns(ns: u64) -> Self {
        Self(ns)
    }

    /// Nanoseconds since the start of 1970 in UTC.
    pub const fn unix_ns(self) -> u64 {
        self.0
    }

    /// The current time of the system clock.
    pub fn now() -> Self {
        SystemTime::now().into()
    }

    /// The time of day in UTC with microseconds, such as `03:04:05.000006`.
    pub fn time_of_day(self) -> String {
        let micros = self.0 / 1_000;
        let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
        let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        format!("{hour:02}:{minute:02}:{second:02}.{micros:06}")
    }
}

impl MonotonicTime {
    /// The time at this many nanoseconds of the monotonic clock.
    pub const fn from_ns(ns: u64) -> Self {
        Self(ns)
    }

    /// Nanoseconds of the monotonic clock.
    pub const fn ns(self) -> u64 {
        self.0
    }
}

/// Times before 1970 become 1970, times after 2554 the end of 2554.
impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(saturating_ns(since))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = UNIX_EPOCH + Duration::from_nanos(self.0);
        fmt::Display::fmt(&humantime::format_rfc3339_nanos(time), out)
    }
}

/// Why a text is not a [`Timestamp`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a time in UTC by RFC 3339 from 1970 to 2554, such as 2026-01-02T03:04:05.000000006Z")]
pub struct TimestampError;

impl FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, TimestampError> {
        nanoseconds(text).map(Self).ok_or(TimestampError)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text_form::deserialize(deserializer, "a time by RFC 3339")
    }
}

/// Parses an RFC 3339 time in UTC with up to nine fractional digits as nanoseconds since 1970.
///
/// A recording has millions of times. This parser of one format is several times as fast as a
/// parser of all RFC 3339 formats (`cargo xtask bench report`).
fn nanoseconds(text: &str) -> Option<u64> {
    let (head, rest) = text.as_bytes().split_first_chunk()?;
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, b'T', h1, h2, b':', i1, i2, b':', s1, s2] =
        *head
    else {
        return None;
    };
    let (year, month, day) = (digits([y1, y2, y3, y4])?, digits([m1, m2])?, digits([d1, d2])?);
    let (hour, minute, second) = (digits([h1, h2])?, digits([i1, i2])?, digits([s1, s2])?);
    if year < 1970 || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds = ((days(year, month, day)? * 24 + hour) * 60 + minute) * 60 + second;
    seconds.checked_mul(1_000_000_000)?.checked_add(fraction(rest)?)
}

/// Parses the part after the seconds, `Z` or a point, digits and `Z`, as nanoseconds.
fn fraction(rest: &[u8]) -> Option<u64> {
    match rest {
        [b'Z'] => Some(0),
        [b'.', some @ .., b'Z'] if !some.is_empty() => {
            let mut nine = [b'0'; 9];
            nine.get_mut(..some.len())?.copy_from_slice(some);
            digits(nine)
        }
        _ => None,
    }
}

/// Parses at most nine ASCII digits.
fn digits<const COUNT: usize>(text: [u8; COUNT]) -> Option<u64> {
    let (mut number, mut invalid) = (0, false);
    // Without an early return the loop has a fixed length and no branch.
    for byte in text {
        let digit = byte.wrapping_sub(b'0');
        invalid |= digit > 9;
        number = number * 10 + u64::from(digit);
    }
    if invalid { None } else { Some(number) }
}

/// Days from the start of 1970 to a day of the Gregorian calendar; `None` if it does not exist.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    const BEFORE: [u64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    const LENGTH: [u64; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let index = usize::try_from(month.checked_sub(1)?).ok()?;
    let (before, length) = (*BEFORE.get(index)?, *LENGTH.get(index)?);
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let february_29 = u64::from(leap && month == 2);
    if day == 0 || day > length + february_29 {
        return None;
    }
    let leap_days = |year: u64| year / 4 - year / 100 + year / 400;
    let years = (year - 1970) * 365 + leap_days(year - 1) - leap_days(1969);
    Some(years + before + u64::from(leap && month > 2) + day - 1)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use proptest::prelude::*;

    use super::*;

    fn humantime_ns(text: &str) -> Option<u64> {
        let time = humantime::parse_rfc3339(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
        u64::try_from(time.as_nanos()).ok()
    }

    #[test]
    fn the_first_and_the_last_time_are_parsed() {
        assert_eq!(nanoseconds("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(nanoseconds("2000-02-29T23:59:59.5Z"), Some(951_868_799_500_000_000));
        assert_eq!(nanoseconds("2554-07-21T23:34:33.709551615Z"), Some(u64::MAX));
        assert_eq!(nanoseconds("2554-07-21T23:34:33.709551616Z"), None, "does not fit");
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "Z",
            "2026-01-02 03:04:05Z",
            "2026-01-02T03:04:05",
            "2026-01-02T03:04:05+01:00",
            "2026-01-02T03:04:05.Z",
            "2026-01-02T03:04:05.1234567890Z",
            "2026-02-29T03:04:05Z",
            "2026-13-01T03:04:05Z",
            "2026-00-01T03:04:05Z",
            "2026-01-00T03:04:05Z",
            "2026-01-02T24:04:05Z",
            "1969-12-31T23:59:59Z",
            "２026-01-02T03:04:05Z",
        ] {
            assert_eq!(nanoseconds(text), None, "{text}");
        }
    }

    proptest! {
        /// Parses times that another library formats.
        #[test]
        fn it_parses_what_humantime_formats(ns in 0..=9_000_000_000_000_000_000_u64) {
            let text = humantime::format_rfc3339_nanos(UNIX_EPOCH + Duration::from_nanos(ns));
            prop_assert_eq!(nanoseconds(&text.to_string()), Some(ns));
        }

        /// Compares with another parser on texts that resemble times.
        #[test]
        fn it_parses_what_humantime_parses(
            text in "(19[67]|20[0-9])[0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9](\\.[0-9]{1,10})?Z"
        ) {
            let ours = nanoseconds(&text);
            // humantime accepts leap seconds and more than nine fractional digits.
            prop_assume!(!text.contains(":60") && text.len() <= 30);
            prop_assert_eq!(ours, humantime_ns(&text), "{}", text);
        }

        #[test]
        fn the_text_form_is_that_of_humantime_and_parses_back(ns: u64) {
            let time = Timestamp::from_unix_ns(ns);
            let text = humantime::format_rfc3339_nanos(UNIX_EPOCH + Duration::from_nanos(ns));
            prop_assert_eq!(time.to_string(), text.to_string());
            let json = serde_json::to_string(&time).unwrap();
            prop_assert_eq!(serde_json::from_str::<Timestamp>(&json).unwrap(), time);
            prop_assert_eq!(&text.to_string()[11..26], time.time_of_day());
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = nanoseconds(&text);
        }
    }
}
