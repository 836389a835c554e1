//! The capabilities of this process, and those that tracing needs.

use std::io;

use serde::{Deserialize, Serialize};

use super::release::Release;

const STATUS: &str = "/proc/self/status";

/// A capability that tracing may need; the numbers are those of include/uapi/linux/capability.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Capability {
    /// Reads files whatever their mode: tracefs belongs to root.
    CapDacReadSearch = 2,
    /// Everything without a capability of its own, such as mounting.
    CapSysAdmin = 21,
    /// Shows kernel addresses in `/proc/kallsyms`.
    CapSyslog = 34,
    /// Opens performance events and reads kernel memory from BPF (from 5.8 on).
    CapPerfmon = 38,
    /// Loads BPF programs and creates maps (from 5.8 on).
    CapBpf = 39,
}

impl Capability {
    /// All capabilities; those that are always needed come first.
    pub const ALL: [Self; 5] = [
        Self::CapBpf,
        Self::CapPerfmon,
        Self::CapSyslog,
        Self::CapDacReadSearch,
        Self::CapSysAdmin,
    ];

    /// The name in capabilities(7).
    pub const fn name(self) -> &'static str {
        match self {
            Self::CapBpf => "CAP_BPF",
            Self::CapPerfmon => "CAP_PERFMON",
            Self::CapSyslog => "CAP_SYSLOG",
            Self::CapDacReadSearch => "CAP_DAC_READ_SEARCH",
            Self::CapSysAdmin => "CAP_SYS_ADMIN",
        }
    }
}

/// Why this process cannot trace.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegesError {
    /// The capabilities cannot be read.
    #[error("cannot read the capabilities from {STATUS} (is /proc mounted?)")]
    Read(#[source] io::Error),
    /// Capabilities that tracing needs are missing.
    #[error("missing {}: {}", names(.0), remedy(.0))]
    Missing(Vec<Capability>),
}

/// The privileges of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Privileges {
    /// The effective capabilities, one bit each.
    pub effective: u64,
    /// The effective user ID.
    pub uid: u32,
}

impl Privileges {
    /// Reads the privileges of this process.
    pub fn read() -> Result<Self, PrivilegesError> {
        let status = std::fs::read_to_string(STATUS).map_err(PrivilegesError::Read)?;
        let effective = parse_effective(&status).ok_or_else(|| {
            PrivilegesError::Read(io::Error::new(io::ErrorKind::InvalidData, "it has no CapEff"))
        })?;
        Ok(Self { effective, uid: rustix::process::geteuid().as_raw() })
    }

    pub const fn has(self, capability: Capability) -> bool {
        self.effective & (1 << capability as u64) != 0
    }

    /// The missing capabilities without which no program can be loaded and attached. `CAP_SYS_ADMIN`
    /// includes them; up to 5.7 there is no other.
    pub fn missing(self, kernel: Release) -> Vec<Capability> {
        if self.has(Capability::CapSysAdmin) {
            return Vec::new();
        }
        if kernel < Release::new(5, 8) {
            return vec![Capability::CapSysAdmin];
        }
        [Capability::CapBpf, Capability::CapPerfmon]
            .into_iter()
            .filter(|capability| !self.has(*capability))
            .collect()
    }

    /// Whether files in tracefs can be read: only their owner, root, may.
    pub const fn can_read_tracefs(self) -> bool {
        self.uid == 0 || self.has(Capability::CapDacReadSearch)
    }

    /// Fails if capabilities are [`missing`](Self::missing).
    pub fn require(self, kernel: Release) -> Result<(), PrivilegesError> {
        match self.missing(kernel) {
            missing if missing.is_empty() => Ok(()),
            missing => Err(PrivilegesError::Missing(missing)),
        }
    }
}

fn names(capabilities: &[Capability]) -> String {
    let names: Vec<_> = capabilities.iter().map(|capability| capability.name()).collect();
    names.join(" and ")
}

/// How to get all capabilities that tracing uses.
fn remedy(missing: &[Capability]) -> String {
    if missing == [Capability::CapSysAdmin] {
        return "run it with sudo".to_owned();
    }
    let program = std::env::current_exe()
        .map_or_else(|_| "stable-trace".to_owned(), |path| path.display().to_string());
    format!("run it with sudo, or once: sudo setcap {SETCAP}+ep {program}")
}

/// The capabilities for setcap(8) that let an ordinary user trace where tracefs is mounted. Mounting
/// it needs `CAP_SYS_ADMIN`, which is equivalent to root, so it is not proposed.
pub const SETCAP: &str = "cap_bpf,cap_perfmon,cap_syslog,cap_dac_read_search";

/// Parses the `CapEff` line of a `/proc/PID/status`.
fn parse_effective(status: &str) -> Option<u64> {
    let digits = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(digits.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODERN: Release = Release::new(6, 1);

    fn privileges(capabilities: &[Capability]) -> Privileges {
        let effective =
            capabilities.iter().fold(0, |set, capability| set | 1 << *capability as u64);
        Privileges { effective, uid: 1000 }
    }

    #[test]
    fn the_effective_set_is_parsed() {
        let status = "Name:\tx\nCapPrm:\t0\nCapEff:\t000001fffeffffff\nCapBnd:\t0\n";
        let effective = parse_effective(status).unwrap();
        let privileges = Privileges { effective, uid: 0 };
        assert!(Capability::ALL.iter().all(|capability| privileges.has(*capability)));
        assert!(!Privileges { effective: 0, uid: 0 }.has(Capability::CapBpf));
        assert_eq!(parse_effective("CapEff:\tnone"), None);
        assert_eq!(parse_effective(""), None);
        Privileges::read().unwrap();
    }

    #[test]
    fn missing_capabilities_are_named_with_the_remedy() {
        use Capability::{CapBpf, CapPerfmon, CapSysAdmin};
        privileges(&[CapBpf, CapPerfmon]).require(MODERN).unwrap();
        privileges(&[CapSysAdmin]).require(MODERN).unwrap();
        assert_eq!(privileges(&[CapBpf]).missing(MODERN), [CapPerfmon]);
        let error = privileges(&[]).require(MODERN).unwrap_err().to_string();
        assert!(error.starts_with("missing CAP_BPF and CAP_PERFMON: run it with sudo"), "{error}");
        assert!(error.contains("setcap cap_bpf,cap_perfmon") && error.lines().count() == 1);
        let old = privileges(&[CapBpf, CapPerfmon]).require(Release::new(5, 4)).unwrap_err();
        assert_eq!(old.to_string(), "missing CAP_SYS_ADMIN: run it with sudo");
    }
}
