//! The state that turns records into events.

use super::{
    identity::{Identities, Identity},
    paths::Paths,
    stacks::Stacks,
};

/// Turns records into events.
pub struct Enricher {
    /// Stacks with function names and contexts.
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

    /// The frames for an event, with `--stacks`.
    pub(super) fn frames(&self, frames: &[String]) -> Option<Vec<String>> {
        (self.show_stacks && !frames.is_empty()).then(|| frames.to_vec())
    }
}
