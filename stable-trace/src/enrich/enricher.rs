//! What records are enriched with.

use stable_trace_analysis::units::DeviceId;

use super::{
    identity::{Identities, Identity},
    paths::Paths,
    stacks::Stacks,
};

/// Turns records into events: it knows stacks, devices and paths.
pub struct Enricher {
    /// Stacks by name.
    pub stacks: Stacks,
    /// File systems and devices.
    pub identities: Identities,
    /// Paths of files.
    pub paths: Paths,
    /// `--stacks`.
    pub show_stacks: bool,
}

impl Enricher {
    /// The path of a file that a process waits for or writes to.
    pub(super) fn path_of(&mut self, identity: &Identity, ino: u64, pid: u32) -> Option<String> {
        let dev = identity.backing.as_ref()?.dev;
        self.paths.find((dev, ino), Some(pid))
    }

    pub(super) fn frames(&self, frames: &[String]) -> Option<Vec<String>> {
        (self.show_stacks && !frames.is_empty()).then(|| frames.to_vec())
    }
}

/// Device, its number and the file system, as far as they are known.
#[must_use]
pub fn place(identity: &Identity) -> (Option<String>, Option<DeviceId>, Option<String>) {
    let Some(backing) = &identity.backing else { return (None, None, None) };
    (Some(backing.device.clone()), Some(backing.dev), backing.fs.clone())
}
