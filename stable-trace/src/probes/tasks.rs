//! Loads the object for the program that looks at all tasks, which attaches to nothing.

use aya::{Ebpf, EbpfLoader};

use super::{
    attach::AttachError,
    attached::{BTRFS_OFFSETS, set_btrfs_offsets},
    facts::{Addresses, Facts},
    load::{Settings, load},
    offsets::{btrfs, resolve},
    plan::Plan,
};

/// Why tasks cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TasksError {
    /// The kernel does not tell what the program must know.
    #[error("cannot find tasks that wait: {0}")]
    Kernel(String),
    /// The object cannot be loaded.
    #[error(transparent)]
    Load(#[from] AttachError),
}

/// Loads the object, and creates its maps.
pub(crate) fn load_for_tasks(
    loader: EbpfLoader<'static>,
    facts: &Facts,
    addresses: &Addresses,
    settings: &Settings,
) -> Result<Ebpf, TasksError> {
    let resolved = resolve(facts);
    resolved.waiting.map_err(TasksError::Kernel)?;
    if addresses.wake_page == 0 {
        let reason = facts.refused.get("addresses");
        let absent = || "/proc/kallsyms has no wake_page_function".to_owned();
        return Err(TasksError::Kernel(reason.cloned().unwrap_or_else(absent)));
    }
    let (steps, gaps) = (Vec::new(), Vec::new());
    let plan = Plan { steps, gaps, offsets: resolved.offsets, btrfs: btrfs(facts) };
    let mut ebpf = load(loader, &plan, addresses, settings).map_err(AttachError::Load)?;
    set_btrfs_offsets(&mut ebpf, plan.btrfs)
        .map_err(|source| AttachError::Map { name: BTRFS_OFFSETS, source })?;
    Ok(ebpf)
}
