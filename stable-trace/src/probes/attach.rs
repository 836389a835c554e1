//! Loads the programs, and attaches them by the plan.

use std::{
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
};

use aya::{
    Ebpf, EbpfError, EbpfLoader,
    maps::{CgroupArray, MapError},
    sys::Stats,
};
use stable_trace_analysis::{error_chain::ErrorChain, event::Probe};

use super::{
    attached::{Attached, BTRFS_OFFSETS, set_btrfs_offsets},
    facts::{Addresses, Facts},
    kretprobe,
    load::{Settings, load},
    plan::Plan,
    step::first_lines,
};

/// Why tracing cannot start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AttachError {
    /// The object cannot be loaded.
    #[error("cannot load the eBPF programs (`stable-trace doctor` shows what is missing)")]
    Load(#[source] EbpfError),
    /// No probe of the plan can attach.
    #[error("nothing can attach: {0}; `stable-trace doctor` shows more")]
    Nothing(String),
    /// A map of the object is missing or has another type.
    #[error("cannot use the map {name} (please report it)")]
    Map {
        /// The map's name.
        name: &'static str,
        /// aya's error.
        #[source]
        source: MapError,
    },
    /// The folder of `--cgroup` cannot be used.
    #[error("cannot use the cgroup {} (name a folder of the cgroup2 file system)", path.display())]
    Cgroup {
        /// The folder.
        path: PathBuf,
        /// The kernel's error.
        #[source]
        source: std::io::Error,
    },
}

/// Loads the programs and attaches them. `tracefs` is the root of tracefs. This must run in a mount
/// namespace where aya finds tracefs: aya reads the IDs of tracepoints there. It fails only if nothing
/// attaches; [`Attached::probes`] lists the probes that do not.
pub(crate) fn attach(
    loader: EbpfLoader<'static>,
    plan: Plan,
    facts: &Facts,
    addresses: &Addresses,
    settings: &Settings,
    tracefs: &Path,
) -> Result<Attached, AttachError> {
    if !plan.can_trace() {
        return Err(AttachError::Nothing(reasons(&plan.gaps)));
    }
    let mut ebpf = load(loader, &plan, addresses, settings).map_err(AttachError::Load)?;
    set_btrfs_offsets(&mut ebpf, plan.btrfs)
        .map_err(|source| AttachError::Map { name: BTRFS_OFFSETS, source })?;
    if let Some(path) = &settings.cgroup {
        set_cgroup(&mut ebpf, path)?;
    }
    let statistics = settings.statistics.then(|| {
        aya::sys::enable_stats(Stats::RunTime)
            .inspect_err(|error| {
                log::debug!("the kernel does not measure programs: {}", ErrorChain(error));
            })
            .ok()
    });
    let statistics = statistics.flatten();
    kretprobe::remove_abandoned(tracefs);
    let attached = Attached::new(ebpf, statistics, plan, facts, tracefs);
    if attached.has_any() {
        Ok(attached)
    } else {
        Err(AttachError::Nothing(reasons(&attached.probes())))
    }
}

fn set_cgroup(ebpf: &mut Ebpf, path: &Path) -> Result<(), AttachError> {
    let cgroup = |source| AttachError::Cgroup { path: path.to_owned(), source };
    let folder = std::fs::File::open(path).map_err(cgroup)?;
    let map = |source| AttachError::Map { name: "CGROUPS", source };
    let slots = ebpf.map_mut("CGROUPS").ok_or(map(MapError::ElementNotFound))?;
    let mut slots = CgroupArray::try_from(slots).map_err(map)?;
    slots
        .set(0, folder.as_raw_fd(), 0)
        .map_err(|error| cgroup(std::io::Error::other(first_lines(&error))))
}

/// The reasons why probes did not attach, on one line.
fn reasons(probes: &[Probe]) -> String {
    let reasons = probes.iter().filter_map(|probe| {
        probe.reason.as_ref().map(|reason| format!("{}: {reason}", probe.function))
    });
    reasons.collect::<Vec<_>>().join("; ")
}
