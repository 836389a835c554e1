//! What a test cannot do without.

use std::path::Path;

use super::agent::Agent;
use super::cgroup::Cgroup;
use super::{disk, host, program};

/// A requirement of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// To be root.
    Root,
    /// tracefs, mounted and writable.
    Tracefs,
    /// A tracer of that name in tracefs, such as `function_graph`.
    Tracer(&'static str),
    /// The SCSI debug disk with protection information.
    PiDisk,
    /// A disk without.
    PlainDisk,
    /// The NVMe disk with protection information.
    NvmePi,
    /// The built agent.
    Agent,
    /// The unified hierarchy of cgroups.
    Cgroup2,
    /// A program on PATH.
    Program(&'static str),
    /// A kernel of at least this version.
    KernelFrom(u32, u32),
    /// A kernel older than this version.
    KernelBefore(u32, u32),
}

impl Need {
    /// Why it is not met here, if it is not.
    pub fn gap(&self) -> Option<String> {
        let tell = |met: bool, gap: &str| (!met).then(|| gap.to_owned());
        match *self {
            Self::Root => tell(host::is_root(), "needs root"),
            Self::Tracefs => host::tracefs_gap(),
            Self::Tracer(name) => host::tracefs_gap().or_else(|| {
                let path = Path::new(host::TRACING).join("available_tracers");
                let tracers = std::fs::read_to_string(path).unwrap_or_default();
                tell(
                    tracers.split_whitespace().any(|tracer| tracer == name),
                    &format!("this kernel has no tracer {name}"),
                )
            }),
            Self::PiDisk => variable(disk::PI),
            Self::PlainDisk => variable(disk::PLAIN),
            Self::NvmePi => variable(disk::NVME_PI),
            Self::Agent => Agent::gap(),
            Self::Cgroup2 => tell(Cgroup::root().is_some(), "no cgroup2 is mounted"),
            Self::Program(name) => {
                tell(program::is_there(name), &format!("{name} is not installed"))
            }
            Self::KernelFrom(major, minor) => tell(
                host::kernel_version() >= (major, minor),
                &format!("needs a kernel from {major}.{minor} on"),
            ),
            Self::KernelBefore(major, minor) => tell(
                host::kernel_version() < (major, minor),
                &format!("needs a kernel before {major}.{minor}"),
            ),
        }
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var_os(name).is_none().then(|| format!("{name} is not set: not in a guest with it"))
}
