//! The log of a guest's console.

use std::fs;
use std::path::Path;

/// Lines of the console that are shown when a guest fails.
const TAIL: usize = 40;

#[derive(Clone, Debug, Default)]
pub(crate) struct Console(String);

impl Console {
    /// Reads the log; a missing file counts as empty.
    pub(crate) fn read(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap_or_default();
        Self(String::from_utf8_lossy(&bytes).replace('\r', ""))
    }

    /// The message of a kernel panic.
    pub(crate) fn panic(&self) -> Option<&str> {
        let line = self.0.lines().find(|line| line.contains("Kernel panic - not syncing"))?;
        Some(without_time(line))
    }

    /// The last [`TAIL`] lines.
    pub(crate) fn tail(&self) -> String {
        let lines: Vec<_> = self.0.lines().collect();
        lines[lines.len().saturating_sub(TAIL)..].join("\n")
    }
}

/// A message without its timestamp, `[   12.345678] `.
fn without_time(line: &str) -> &str {
    let rest = line.trim_start().strip_prefix('[').and_then(|rest| rest.split_once("] "));
    rest.map_or(line, |(_, message)| message).trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_recognised() {
        let console = Console(
            "[    1.0] Linux version\n[   12.345678] Kernel panic - not syncing: sysrq triggered crash\n[   12.4] CPU: 0\n"
                .to_owned(),
        );
        assert_eq!(console.panic(), Some("Kernel panic - not syncing: sysrq triggered crash"));
        assert_eq!(Console("all is well\n".to_owned()).panic(), None);
    }

    #[test]
    fn the_tail_is_bounded() {
        let console = Console("line\n".repeat(99) + "last\n");
        assert_eq!(console.tail().lines().count(), TAIL);
        assert!(console.tail().ends_with("last"));
    }
}
