//! Formats numbers and foreign text for people.

use std::time::Duration;

/// A duration with three significant digits: `847ns`, `1.20ms`, `31.4s`, `2h05m`.
pub fn duration(ns: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "µs")];
    if ns >= 600_000_000_000 {
        let minutes = Duration::from_nanos(ns).as_secs() / 60;
        return format!("{}h{:02}m", minutes / 60, minutes % 60);
    }
    let Some((unit, name)) = UNITS.iter().find(|(unit, _)| ns >= *unit) else {
        return format!("{ns}ns");
    };
    let whole = ns / unit;
    let places = match whole {
        0..=9 => 2,
        10..=99 => 1,
        _ => 0,
    };
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let value = ns as f64 / *unit as f64;
    format!("{value:.places$}{name}")
}

pub(crate) fn p_value(value: f64) -> String {
    if value < 0.001 { "< 0.001".to_owned() } else { format!("{value:.3}") }
}

/// A confidence between 0 and 1 as `95 %`.
pub(crate) fn percent(confidence: f64) -> String {
    format!("{:.0} %", confidence.clamp(0.0, 1.0) * 100.0)
}

/// Replaces control characters, so that names from outside cannot send escape sequences to the
/// terminal.
pub(crate) fn sanitize(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { '\u{fffd}' } else { char }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_keep_three_digits() {
        for (ns, text) in [
            (0, "0ns"),
            (847, "847ns"),
            (1_000, "1.00µs"),
            (12_340, "12.3µs"),
            (1_204_000, "1.20ms"),
            (123_400_000, "123ms"),
            (31_440_000_000, "31.4s"),
            (7_500_000_000_000, "2h05m"),
        ] {
            assert_eq!(duration(ns), text);
        }
    }

    #[test]
    fn a_name_cannot_control_the_terminal() {
        assert_eq!(sanitize("a\x1b[2Jb\n"), "a\u{fffd}[2Jb\u{fffd}");
    }
}
