//! The kernel's lockdown level: `/sys/kernel/security/lockdown`.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::private_mount;

/// The usual mount point of securityfs.
const SECURITYFS: &str = "/sys/kernel/security";

/// The kernel's lockdown level (security/lockdown/lockdown.c, 6.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lockdown {
    /// Lockdown is off.
    None,
    /// Root cannot change the running kernel. Tracing only reads it, and is not affected.
    Integrity,
    /// Root cannot read kernel memory: no tracefs, kprobes or BPF (`LOCKDOWN_TRACEFS`,
    /// `LOCKDOWN_KPROBES`, `LOCKDOWN_BPF_READ_KERNEL`).
    Confidentiality,
    /// The level cannot be read: no securityfs, or a kernel without the lockdown module.
    Unknown,
}

impl Lockdown {
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Integrity => "integrity",
            Self::Confidentiality => "confidentiality",
            Self::Unknown => "unknown",
        }
    }

    /// Parses the file: all levels, the one in force in brackets.
    pub fn parse(text: &str) -> Self {
        match private_mount::bracketed(text, ('[', ']')) {
            Some("none") => Self::None,
            Some("integrity") => Self::Integrity,
            Some("confidentiality") => Self::Confidentiality,
            _ => Self::Unknown,
        }
    }

    /// Reads the level; where securityfs is not mounted, from a private mount of it.
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
