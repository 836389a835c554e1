//! Colours of the text output.

use std::fmt;

/// The meaning of a piece of text, which determines its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    /// Of minor interest.
    Faint,
    /// A heading.
    Strong,
    /// Deserves attention, such as a stall of 10 ms or more.
    Slow,
    /// A verdict with a known cause.
    Found,
    /// A failure or a loss, or a stall of 100 ms or more.
    Bad,
}

impl Tone {
    /// The tone of a stall by its duration.
    pub(crate) const fn of_stall(duration_ns: u64) -> Self {
        match duration_ns {
            100_000_000.. => Self::Bad,
            10_000_000.. => Self::Slow,
            _ => Self::Plain,
        }
    }

    /// The parameters of the SGR escape sequence (ECMA-48, 8.3.117).
    const fn sgr(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Faint => Some("2"),
            Self::Strong => Some("1"),
            Self::Slow => Some("33"),
            Self::Found => Some("35;1"),
            Self::Bad => Some("31;1"),
        }
    }
}

/// Adds escape sequences for colours, or does not.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// Whether to add them.
    pub color: bool,
}

impl Style {
    pub(crate) fn paint<T: fmt::Display>(self, tone: Tone, text: T) -> String {
        match tone.sgr() {
            Some(sgr) if self.color => format!("\x1b[{sgr}m{text}\x1b[0m"),
            _ => text.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_colour_text_is_unchanged() {
        assert_eq!(Style { color: false }.paint(Tone::Bad, "x"), "x");
        assert_eq!(Style { color: true }.paint(Tone::Bad, "x"), "\x1b[31;1mx\x1b[0m");
    }
}
