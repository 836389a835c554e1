//! How far the kernel keeps root itself out: `/sys/kernel/security/lockdown`.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::private_mount;

/// Where securityfs belongs.
const SECURITYFS: &str = "/sys/kernel/security";

/// The kernel's lockdown level (security/lockdown/lockdown.c, 6.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lockdown {
    /// Nothing is locked.
    None,
    /// Nobody changes the running kernel; tracing, which reads it, is not affected.
    Integrity,
    /// Nobody reads kernel memory: neither tracefs, nor kprobes, nor BPF (`LOCKDOWN_TRACEFS`,
    /// `LOCKDOWN_KPROBES`, `LOCKDOWN_BPF_READ_KERNEL`).
    Confidentiality,
    /// There is no telling: no securityfs to read, or a kernel without the lockdown module.
    Unknown,
}

impl Lockdown {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Integrity => "integrity",
            Self::Confidentiality => "confidentiality",
            Self::Unknown => "unknown",
        }
    }

    /// Understands the file: every level there is, the one in force in brackets.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        match private_mount::marked(text, ('[', ']')) {
            Some("none") => Self::None,
            Some("integrity") => Self::Integrity,
            Some("confidentiality") => Self::Confidentiality,
            _ => Self::Unknown,
        }
    }

    /// Reads it; where nobody has mounted securityfs, from a mount of our own that nobody sees.
    #[must_use]
    pub fn read() -> Self {
        let text = private_mount::read("securityfs", Path::new(SECURITYFS), "lockdown");
        text.map_or(Self::Unknown, |text| Self::parse(&text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_in_brackets_is_in_force() {
        assert_eq!(Lockdown::parse("[none] integrity confidentiality\n"), Lockdown::None);
        assert_eq!(Lockdown::parse("none [integrity] confidentiality\n"), Lockdown::Integrity);
        assert_eq!(Lockdown::parse("none [confidentiality]"), Lockdown::Confidentiality);
        assert_eq!(Lockdown::parse("[paranoia]"), Lockdown::Unknown);
        assert_eq!(Lockdown::parse(""), Lockdown::Unknown);
    }
}
