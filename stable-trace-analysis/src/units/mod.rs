//! Times, device numbers, durations and sizes.

mod device_id;
mod text_form;
mod timestamp;

use std::time::Duration;

pub use device_id::{DeviceId, DeviceIdError};
pub use timestamp::{MonotonicTime, Timestamp, TimestampError};

/// Why a text is not a duration or a size.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UnitError {
    /// The text is not a duration.
    #[error("`{0}` is not a duration: write a number and a unit, such as 500us, 1ms, 30s or 5m")]
    Duration(String),
    /// The text is not a size.
    #[error("`{0}` is not a size: write a number and a unit, such as 4096, 64KiB, 64k or 64MiB")]
    Size(String),
}

/// A duration in ns, at most `u64::MAX`.
pub(crate) fn saturating_ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Parses a duration such as `500us`, `1ms`, `30s`, `5m` or `0`.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    humantime::parse_duration(text.trim()).map_err(|_| UnitError::Duration(text.to_owned()))
}

/// Parses a size in bytes such as `4096`, `64KiB`, `64k`, `64MiB` or `64M`. All units are powers of
/// 1024, as in storage tools.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    parse_size::Config::new()
        .with_binary()
        .parse_size(text.trim())
        .map_err(|_| UnitError::Size(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_parsed() {
        for (text, ns) in [
            ("0", 0),
            ("0ms", 0),
            ("500us", 500_000),
            ("1ms", 1_000_000),
            ("30s", 30_000_000_000),
            ("5m", 300_000_000_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_nanos(ns)), "{text}");
        }
    }

    #[test]
    fn the_error_quotes_the_duration() {
        for text in ["", "fast", "10", "-1ms", "1 parsec"] {
            assert_eq!(parse_duration(text), Err(UnitError::Duration(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn sizes_are_parsed() {
        for (text, bytes) in [
            ("4096", 4096),
            ("64KiB", 65_536),
            ("64k", 65_536),
            ("64MiB", 67_108_864),
            ("64M", 67_108_864),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        assert!(parse_size("much").is_err());
    }
}
