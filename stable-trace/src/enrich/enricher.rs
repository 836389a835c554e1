//! The state that turns records into events.

use stable_trace_common::{
    backing::{BY_DEV, Backing},
    layout::{AT_BEGIN, StackSample},
};

use super::{
    cgroups::Cgroups,
    fuse_servers::{FuseServers, is_fuse},
    identity::{Identities, Location, device_id, subvolume_dev},
    layouts::Layouts,
    paths::{File, FilePath, Paths},
    stacks::Stacks,
};

/// Turns records into events.
pub(crate) struct Enricher {
    /// Stacks with function names and contexts.
    pub(crate) stacks: Stacks,
    /// Layouts of stacks, by which the programs recognise them.
    pub(crate) layouts: Layouts,
    /// File systems and devices.
    pub(crate) identities: Identities,
    /// Paths of files.
    pub(crate) paths: Paths,
    /// Cgroups of tasks.
    pub(crate) cgroups: Cgroups,
    /// Servers of FUSE file systems.
    pub(crate) fuse_servers: FuseServers,
    /// `--stacks`.
    pub(crate) show_stacks: bool,
}

impl Enricher {
    /// Learns the layout of a stack, as far as it decides why a task waits.
    pub(crate) fn learn_layout(&mut self, sample: &StackSample) {
        let decisive = match sample.table {
            AT_BEGIN => self.stacks.decisive_frames(&sample.frames),
            _ => self.stacks.frames_to_wait(&sample.frames),
        };
        let learned = decisive.is_some_and(|decisive| self.layouts.learn(sample, decisive));
        if !learned {
            let frames = self.stacks.names(&sample.frames);
            log::debug!("a stack has no layout ({decisive:?} frames decide): {}", frames.join(" "));
        }
    }

    /// The path of a file that a process waits for or writes to.
    pub(super) fn path_of(
        &mut self,
        backing: &Backing,
        subvolume: u32,
        ino: u64,
        pid: Option<u32>,
    ) -> Option<FilePath> {
        let dev = if backing.kind == BY_DEV {
            device_id(backing)
        } else {
            self.identities.get(backing).backing.as_ref()?.dev
        };
        let file = File { dev, subvolume: subvolume_dev(subvolume), ino };
        self.paths.find(file, pid, self.identities.mounts())
    }

    /// The process that serves a FUSE file system.
    pub(super) fn server_of(&mut self, on: &Location) -> Option<u32> {
        let dev = on.dev.filter(|_| on.fs.as_deref().is_some_and(is_fuse))?;
        self.fuse_servers.get(dev, self.identities.mounts().all())
    }

    /// The frames for an event, with `--stacks`.
    pub(super) fn frames(&self, frames: &[String]) -> Option<Vec<String>> {
        (self.show_stacks && !frames.is_empty()).then(|| frames.to_vec())
    }
}
