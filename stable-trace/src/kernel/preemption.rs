//! Whether the kernel takes the CPU from a task that runs in the kernel: `sched/preempt` of debugfs.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::private_mount;

/// Where debugfs belongs.
const DEBUGFS: &str = "/sys/kernel/debug";

/// The model in force (`sched_dynamic_show`, kernel/sched/debug.c, 5.12 to 7.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preemption {
    /// Not in the kernel, or only where it offers itself.
    Voluntary,
    /// Nearly everywhere, some at the next tick only.
    Full,
    /// There is no telling: an older kernel, or one whose model is fixed.
    #[default]
    Unknown,
}

impl Preemption {
    /// Understands the file: every model there is, the one in force in parentheses.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        match private_mount::marked(text, ('(', ')')) {
            Some("none" | "voluntary") => Self::Voluntary,
            Some("full" | "lazy") => Self::Full,
            _ => Self::Unknown,
        }
    }

    /// Reads it; where nobody has mounted debugfs, from a mount of our own that nobody sees.
    #[must_use]
    pub fn read() -> Self {
        let text = private_mount::read("debugfs", Path::new(DEBUGFS), "sched/preempt");
        text.map_or(Self::Unknown, |text| Self::parse(&text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_in_parentheses_is_in_force() {
        assert_eq!(Preemption::parse("none (voluntary) full\n"), Preemption::Voluntary);
        assert_eq!(Preemption::parse("(none) voluntary full\n"), Preemption::Voluntary);
        assert_eq!(Preemption::parse("none voluntary (full) lazy\n"), Preemption::Full);
        assert_eq!(Preemption::parse("full (lazy)\n"), Preemption::Full);
        assert_eq!(Preemption::parse("(undefined)"), Preemption::Unknown);
        assert_eq!(Preemption::parse(""), Preemption::Unknown);
    }
}
