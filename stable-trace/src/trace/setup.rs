//! What a run and a look at all tasks have in common: the facts of the kernel, and what turns records into events.

use std::path::Path;

use aya::{Ebpf, maps::MapError};
use stable_trace_analysis::{error_chain::ErrorChain, units::DeviceId};

use super::error::TracerError;
use crate::{
    collect::stacks::StackMap,
    enrich::{
        Enricher, cgroups::Cgroups, fuse_servers::FuseServers, identity::Identities,
        layouts::Layouts, paths::Paths, stacks::Stacks,
    },
    kernel::{
        btf::{self, Btf},
        limits,
        mounts::Mounts,
        symbols::Symbols,
    },
    probes::{attach::AttachError, facts::Facts},
};

/// What turns records into events, for the maps of the loaded programs. `stacks`: `--stacks`.
pub(super) fn enricher(
    ebpf: &mut Ebpf,
    symbols: Symbols,
    devices: Vec<DeviceId>,
    stacks: bool,
) -> Result<Enricher, TracerError> {
    let mounts = Mounts::load()?;
    // Without it the mounts alone tell whether there is a unified hierarchy.
    let own_cgroup = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    Ok(Enricher {
        cgroups: Cgroups::new(mounts.all(), &own_cgroup),
        stacks: Stacks::new(symbols, StackMap::new(map(ebpf, "STACKS")?.try_into()?)),
        layouts: Layouts::new(map(ebpf, "STACK_LAYOUTS")?.try_into()?),
        identities: Identities::new(
            mounts,
            devices,
            map(ebpf, "DEVICE_FILTER")?.try_into()?,
            map(ebpf, "CHECKED_DEVICES")?.try_into()?,
            map(ebpf, "STACKED_ON")?.try_into()?,
        ),
        paths: Paths::new(Path::new("/proc")),
        fuse_servers: FuseServers::new(Path::new("/proc")),
        show_stacks: stacks,
    })
}

/// Gathers the facts of the running kernel; its types come from `btf_file`, or else from the kernel.
pub(crate) fn gather(tracefs: &Path, symbols: &Symbols, btf_file: Option<&Path>) -> Facts {
    // The trials below create programs and maps.
    limits::lift();
    let path = btf_file.unwrap_or(Path::new(btf::VMLINUX));
    let bytes = btf::read(path);
    let types = bytes.as_deref().map_err(|error| ErrorChain(error).to_string()).and_then(|bytes| {
        Btf::parse(bytes).map_err(|error| format!("{}: {}", path.display(), ErrorChain(&error)))
    });
    // The types of a module extend those of the running kernel, not those of another file.
    let module_btf = |module: &str| match btf_file {
        None => btf::read(&btf::module_path(module)).ok(),
        Some(_) => None,
    };
    let mut facts = Facts::gather(tracefs, symbols, &types, module_btf);
    if btf_file.is_some() {
        facts.forget_type_ids();
    }
    facts
}

/// Takes a map out of the loaded object.
pub(super) fn map(ebpf: &mut Ebpf, name: &'static str) -> Result<aya::maps::Map, AttachError> {
    let absent =
        || AttachError::Map { name, source: MapError::InvalidName { name: name.to_owned() } };
    ebpf.take_map(name).ok_or_else(absent)
}
