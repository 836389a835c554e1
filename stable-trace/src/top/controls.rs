//! What keys change: the order, the filter, the pause, the end. Pure.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// The longest filter.
const MAX_FILTER: usize = 64;

/// By what rows are sorted, the most first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sort {
    /// Stalled time.
    #[default]
    Time,
    /// Number of stalls.
    Count,
    /// The longest stalls.
    Latency,
}

impl Sort {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Time => "stalled time",
            Self::Count => "number",
            Self::Latency => "latency",
        }
    }

    const fn next(self) -> Self {
        match self {
            Self::Time => Self::Count,
            Self::Count => Self::Latency,
            Self::Latency => Self::Time,
        }
    }
}

/// The state of the keys.
#[derive(Clone, Debug, Default)]
pub(super) struct Controls {
    pub(super) sort: Sort,
    /// Only rows with this text in a name are shown.
    pub(super) filter: String,
    /// Whether keys are letters of the filter.
    pub(super) is_typing: bool,
    pub(super) is_paused: bool,
    pub(super) quits: bool,
}

impl Controls {
    /// Takes a key.
    pub(super) fn key(&mut self, key: KeyEvent) {
        if key.kind == KeyEventKind::Release {
            return;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
            self.quits = true;
        } else if self.is_typing {
            self.letter(key.code);
        } else {
            match key.code {
                KeyCode::Char('q') => self.quits = true,
                KeyCode::Char('s') => self.sort = self.sort.next(),
                KeyCode::Char('p' | ' ') => self.is_paused = !self.is_paused,
                KeyCode::Char('/') => {
                    self.filter.clear();
                    self.is_typing = true;
                }
                KeyCode::Esc => self.filter.clear(),
                _ => {}
            }
        }
    }

    fn letter(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.is_typing = false,
            KeyCode::Esc => {
                self.filter.clear();
                self.is_typing = false;
            }
            KeyCode::Backspace => _ = self.filter.pop(),
            KeyCode::Char(letter) if self.filter.len() < MAX_FILTER => self.filter.push(letter),
            _ => {}
        }
    }

    /// Whether a row with these names is shown.
    pub(super) fn shows(&self, names: &[&str]) -> bool {
        self.filter.is_empty() || names.iter().any(|name| name.contains(&self.filter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(keys: &str) -> Controls {
        let mut controls = Controls::default();
        for key in keys.chars() {
            let code = match key {
                '\n' => KeyCode::Enter,
                '\x1b' => KeyCode::Esc,
                '\x08' => KeyCode::Backspace,
                letter => KeyCode::Char(letter),
            };
            controls.key(KeyEvent::new(code, KeyModifiers::NONE));
        }
        controls
    }

    #[test]
    fn keys_sort_pause_and_quit() {
        assert_eq!(after("").sort, Sort::Time);
        assert_eq!(after("s").sort, Sort::Count);
        assert_eq!(after("sss").sort, Sort::Time);
        assert!(after("p").is_paused && !after("pp").is_paused);
        assert!(after("q").quits && !after("x").quits);
        let mut controls = after("/ab");
        controls.key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL));
        assert!(controls.quits, "also while a filter is typed");
    }

    #[test]
    fn a_filter_is_typed_and_removed() {
        let typed = after("/sdq\x08a\n");
        assert_eq!((typed.filter.as_str(), typed.is_typing, typed.quits), ("sda", false, false));
        assert!(typed.shows(&["x", "sda1"]) && !typed.shows(&["sdb"]));
        assert!(after("/sda\n\x1b").shows(&["sdb"]));
        assert_eq!(after("/sda\x1b").filter, "");
        let long = format!("/{}", "a".repeat(1_000));
        assert_eq!(after(&long).filter.len(), MAX_FILTER);
    }
}
