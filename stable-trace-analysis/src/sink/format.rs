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

/// Writes characters that act on a terminal as Rust does, such as `\u{1b}`: names from outside must not send escape
/// sequences, and must not look like other names.
#[must_use]
pub fn sanitize(text: &str) -> String {
    let mut sane = String::with_capacity(text.len());
    for char in text.chars() {
        if acts_on_terminal(char) {
            sane.extend(char.escape_default());
        } else {
            sane.push(char);
        }
    }
    sane
}

/// Whether a character is a control character, separates lines, or sets the direction of the text around it (Unicode
/// Standard Annex 9, "Directional Formatting Characters").
pub(crate) fn acts_on_terminal(char: char) -> bool {
    char.is_control()
        || matches!(
            char,
            '\u{61c}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
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
        assert_eq!(sanitize("a\x1b[2Jb\n\u{9b}1m"), r"a\u{1b}[2Jb\n\u{9b}1m");
        assert_eq!(sanitize("txt.\u{202e}exe é"), r"txt.\u{202e}exe é");
    }
}
