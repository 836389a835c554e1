//! The capabilities of threads, as `/proc` shows them.

use std::fmt;
use std::fs;

use anyhow::{Context as _, Result};

use super::process::threads;

/// `CAP_DAC_OVERRIDE` of include/uapi/linux/capability.h.
pub(crate) const DAC_OVERRIDE: u64 = 1 << 1;
pub(crate) const DAC_READ_SEARCH: u64 = 1 << 2;
pub(crate) const KILL: u64 = 1 << 5;
pub(crate) const SYS_PTRACE: u64 = 1 << 19;
pub(crate) const SYS_ADMIN: u64 = 1 << 21;
pub(crate) const SYSLOG: u64 = 1 << 34;
pub(crate) const PERFMON: u64 = 1 << 38;
pub(crate) const BPF: u64 = 1 << 39;

/// The privileges of a thread.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct ThreadPrivileges {
    pub(crate) inheritable: u64,
    pub(crate) permitted: u64,
    pub(crate) effective: u64,
    pub(crate) bounding: u64,
    pub(crate) ambient: u64,
    pub(crate) no_new_privs: bool,
}

impl ThreadPrivileges {
    /// Those of a thread that has these capabilities, and can get no other.
    pub(crate) const fn restricted_to(capabilities: u64) -> Self {
        Self {
            inheritable: 0,
            permitted: capabilities,
            effective: capabilities,
            bounding: 0,
            ambient: 0,
            no_new_privs: true,
        }
    }

    /// Those of the calling thread.
    pub(crate) fn own() -> Result<Self> {
        Ok(Self::read("/proc/thread-self/status")?.1)
    }

    /// Those of each thread of a process with its name, in the order of the names.
    pub(crate) fn of_threads(pid: u32) -> Result<Vec<(String, Self)>> {
        let mut threads = threads(pid)?
            .into_iter()
            .map(|tid| Self::read(&format!("/proc/{pid}/task/{tid}/status")))
            .collect::<Result<Vec<_>>>()?;
        threads.sort_by(|(name, _), (other, _)| name.cmp(other));
        Ok(threads)
    }

    /// Reads the name of a thread and its privileges.
    fn read(path: &str) -> Result<(String, Self)> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
        Self::parse(&text).with_context(|| format!("{path} is incomplete: {text}"))
    }

    /// Parses a `status` of `/proc`, or the lines of it that it has.
    pub(crate) fn parse(text: &str) -> Option<(String, Self)> {
        let field = |name: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            Some(value.trim())
        };
        let set = |name: &str| u64::from_str_radix(field(name)?, 16).ok();
        let privileges = Self {
            inheritable: set("CapInh")?,
            permitted: set("CapPrm")?,
            effective: set("CapEff")?,
            bounding: set("CapBnd")?,
            ambient: set("CapAmb")?,
            no_new_privs: field("NoNewPrivs")? == "1",
        };
        Some((field("Name")?.to_owned(), privileges))
    }
}

impl fmt::Debug for ThreadPrivileges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { inheritable, permitted, effective, bounding, ambient, no_new_privs } = self;
        write!(
            f,
            "CapInh {inheritable:x} CapPrm {permitted:x} CapEff {effective:x} CapBnd {bounding:x} \
             CapAmb {ambient:x} NoNewPrivs {no_new_privs}"
        )
    }
}
