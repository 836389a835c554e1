//! Colours that mean something, and numbers that fit a column.

use std::{fmt, time::Duration};

/// What a piece of text means; the terminal gives it its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// As it is.
    Plain,
    /// Of little interest.
    Faint,
    /// A heading.
    Strong,
    /// Worth a look: a stall of 10 ms and more.
    Slow,
    /// A finding: what happened is known.
    Found,
    /// Hurts: a stall of 100 ms and more, or something lost.
    Bad,
}

/// Writes text in a tone, or plainly.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// Whether the reader sees colours.
    pub color: bool,
}

impl Style {
    /// `text` in its tone.
    pub fn paint<T: fmt::Display>(self, tone: Tone, text: T) -> String {
        let code = match tone {
            Tone::Plain => "",
            Tone::Faint => "2",
            Tone::Strong => "1",
            Tone::Slow => "33",
            Tone::Found => "35;1",
            Tone::Bad => "31;1",
        };
        if self.color && !code.is_empty() {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_string()
        }
    }
}

/// The tone of a stall by its length.
#[must_use]
pub const fn stall_tone(duration_ns: u64) -> Tone {
    match duration_ns {
        100_000_000.. => Tone::Bad,
        10_000_000.. => Tone::Slow,
        _ => Tone::Plain,
    }
}

/// A duration with three digits that matter: `847ns`, `1.20ms`, `31.4s`, `2h05m`.
#[must_use]
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

/// A p-value as people write it.
#[must_use]
pub fn p_value(value: f64) -> String {
    if value < 0.001 { "< 0.001".to_owned() } else { format!("{value:.3}") }
}

/// Text from outside, without what would steer the terminal.
#[must_use]
pub fn harmless(text: &str) -> String {
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
    fn a_name_cannot_steer_the_terminal() {
        assert_eq!(harmless("a\x1b[2Jb\n"), "a\u{fffd}[2Jb\u{fffd}");
    }

    #[test]
    fn without_colour_nothing_is_added() {
        assert_eq!(Style { color: false }.paint(Tone::Bad, "x"), "x");
        assert_eq!(Style { color: true }.paint(Tone::Bad, "x"), "\x1b[31;1mx\x1b[0m");
    }
}
