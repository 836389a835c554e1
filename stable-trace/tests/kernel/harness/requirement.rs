//! Requirements of tests.

use std::path::Path;

use super::agent::Agent;
use super::cgroup::Cgroup;
use super::{disk, host, program};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Requirement {
    Root,
    /// tracefs, mounted and writable.
    Tracefs,
    /// A tracer of that name in tracefs, such as `function_graph`.
    Tracer(&'static str),
    /// The SCSI debug disk with protection information.
    PiDisk,
    /// A disk without protection information.
    PlainDisk,
    /// The NVMe disk with protection information.
    NvmePi,
    /// The built agent.
    Agent,
    /// The unified cgroup hierarchy.
    Cgroup2,
    /// A program on PATH.
    Program(&'static str),
    /// A kernel of at least this version.
    KernelFrom(u32, u32),
    /// A kernel on which pages of a disk with an integrity profile can be unstable.
    UnstablePages,
    /// A kernel older than this.
    KernelBefore(u32, u32, &'static str),
}

impl Requirement {
    /// Why this environment does not meet the requirement. `None` if it does.
    pub(crate) fn unmet(&self) -> Option<String> {
        let unless = |met: bool, reason: &str| (!met).then(|| reason.to_owned());
        match *self {
            Self::Root => unless(host::is_root(), "needs root"),
            Self::Tracefs => host::tracefs_unavailable(),
            Self::Tracer(name) => host::tracefs_unavailable().or_else(|| {
                let path = Path::new(host::TRACING).join("available_tracers");
                let tracers = std::fs::read_to_string(path).unwrap_or_default();
                unless(
                    tracers.split_whitespace().any(|tracer| tracer == name),
                    &format!("this kernel has no tracer {name}"),
                )
            }),
            Self::PiDisk => variable_unset(disk::PI),
            Self::PlainDisk => variable_unset(disk::PLAIN),
            Self::NvmePi => variable_unset(disk::NVME_PI),
            Self::Agent => Agent::missing(),
            Self::Cgroup2 => unless(Cgroup::root().is_some(), "no cgroup2 is mounted"),
            Self::Program(name) => {
                unless(program::is_installed(name), &format!("{name} is not installed"))
            }
            Self::KernelFrom(major, minor) => unless(
                host::kernel_version() >= (major, minor),
                &format!("needs kernel {major}.{minor} or later"),
            ),
            Self::KernelBefore(major, minor, reason) => {
                unless(host::kernel_version() < (major, minor), reason)
            }
            Self::UnstablePages => unless(
                !host::integrity_keeps_pages_stable(),
                "this kernel keeps pages stable on every disk with an integrity profile",
            ),
        }
    }
}

fn variable_unset(name: &str) -> Option<String> {
    std::env::var_os(name)
        .is_none()
        .then(|| format!("{name} is not set: only a guest has the disk"))
}
