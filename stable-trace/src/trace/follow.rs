//! Names the processes that the programs follow.

use std::{collections::BTreeSet, path::Path};

use aya::maps::{HashMap as KernelMap, MapData, MapError};
use stable_trace_analysis::error_chain::ErrorChain;
use stable_trace_common::follow::Seed;

use crate::kernel::process_tree;

/// Scans of `/proc`, at most. One suffices unless processes are created meanwhile.
const MAX_SCANS: usize = 10;

/// The map `SEEDS`.
pub(super) struct Seeds(KernelMap<MapData, u32, Seed>);

impl Seeds {
    pub(super) const fn new(map: KernelMap<MapData, u32, Seed>) -> Self {
        Self(map)
    }

    /// Follows a process and its present descendants. The fork probe must be attached: it adds the
    /// later ones.
    pub(super) fn add_tree(&mut self, root: u32) -> Result<(), MapError> {
        // Without the root nothing would be followed.
        self.0.insert(root, Seed::PROCESS, 0)?;
        let mut known = BTreeSet::new();
        for _ in 0..MAX_SCANS {
            let found = match process_tree::with_descendants(Path::new("/proc"), root) {
                Ok(found) => found,
                Err(error) => {
                    log::warn!("present descendants are not followed: {}", ErrorChain(&error));
                    return Ok(());
                }
            };
            // All of them each time: the fork probe removes a process that is inserted before its
            // parent is known to be followed.
            let mut new = false;
            for pid in found {
                if let Err(error) = self.0.insert(pid, Seed::PROCESS, 0) {
                    log::warn!("not all descendants are followed: {}", ErrorChain(&error));
                    return Ok(());
                }
                new |= known.insert(pid);
            }
            // A process that a parent created before it was followed is in `/proc` by now.
            if !new {
                return Ok(());
            }
        }
        log::warn!("descendants that were created at the start may not be followed");
        Ok(())
    }

    /// Follows the processes that this process creates while `create` runs.
    pub(super) fn add_children<T>(&mut self, create: impl FnOnce() -> T) -> Result<T, MapError> {
        let own = std::process::id();
        self.0.insert(own, Seed::CHILDREN, 0)?;
        let created = create();
        self.0.remove(&own)?;
        Ok(created)
    }
}
