//! Turns records of stalls and unstable writes into events.

use std::path::Path;

use smol_str::SmolStr;
use stable_trace_analysis::event::{Context, Event, Grade, Stall, UnstableWrite, Waiting};
use stable_trace_common::{
    record::{StallRecord, UnstableRecord},
    unstable::{PAGE_MKWRITE, UnstableKey},
};

use super::{
    cgroups::Cgroup,
    decode::name,
    enricher::Enricher,
    identity::{Identity, Location, subvolume_dev},
    paths::FilePath,
};
use crate::kernel::sysfs;

/// The function of a stall whose stack matches no rule.
const UNNAMED_WAIT: SmolStr = SmolStr::new_static("writeback:folio_wait_writeback");

impl Enricher {
    /// Turns a record into a stall; `None` if `--device` excludes it.
    pub(crate) fn stall(&mut self, record: &StallRecord) -> Option<Stall> {
        let identity = self.identities.get(&record.backing);
        if !identity.selected {
            return None;
        }
        let stack = self.stacks.get(record.stack);
        let location = identity.location();
        let server_pid = self.server_of(&location);
        let Location { device, dev, fs } = location;
        let found = self.path_of(&record.backing, record.subvolume, record.ino, Some(record.pid));
        let (path, path_from) = found.map(FilePath::into_fields).unwrap_or_default();
        let CgroupFields { cgroup_id, cgroup, container } = self.cgroup(record.cgroup_id);
        Some(Stall {
            context: stack.reason.context,
            function: stack.reason.function.clone().unwrap_or(UNNAMED_WAIT),
            duration_ns: record.duration_ns,
            pid: record.pid,
            tid: record.tid,
            comm: name(&record.comm),
            process: Some(name(&record.process)),
            cgroup_id,
            cgroup,
            container,
            device,
            dev,
            fs,
            server_pid,
            path,
            path_from,
            subvolume_dev: subvolume_dev(record.subvolume),
            ino: inode(record.ino),
            index: record.index,
            stack: self.frames(&stack.frames),
        })
    }

    /// Turns a record of a wait that has not ended into an event; `None` if `--device` excludes it.
    pub(crate) fn waiting(&mut self, so_far: &StallRecord) -> Option<Waiting> {
        let waiting = Waiting::from(self.stall(so_far)?);
        let server_state = waiting.server_pid.and_then(|pid| self.fuse_servers.state(pid));
        let writes_in_flight =
            waiting.dev.and_then(|dev| sysfs::writes_in_flight(Path::new("/sys"), dev));
        Some(Waiting { server_state, writes_in_flight, ..waiting })
    }

    /// Turns a record into an unstable write; `None` if `--device` excludes it, and no device below
    /// checks integrity.
    pub(crate) fn unstable_write(&mut self, record: &UnstableRecord) -> Option<Event> {
        let identity = self.identities.get(&record.key.backing);
        if !identity.shows_unstable_writes() {
            return None;
        }
        let stack = self.stacks.get(record.stack);
        let context = unstable_write_context(&record.key);
        let Location { device, dev, fs } = identity.location();
        let found =
            self.path_of(&record.key.backing, record.subvolume, record.ino, Some(record.pid));
        let (path, path_from) = found.map(FilePath::into_fields).unwrap_or_default();
        let CgroupFields { cgroup_id, cgroup, container } = self.cgroup(record.cgroup_id);
        Some(Event::UnstableWrite(UnstableWrite {
            context,
            grade: unstable_write_grade(&record.key, &identity),
            risk: identity.risk,
            function: stack
                .reason
                .function
                .clone()
                .unwrap_or_else(|| SmolStr::new_static(context.name())),
            pid: record.pid,
            tid: record.tid,
            comm: name(&record.comm),
            process: Some(name(&record.process)),
            cgroup_id,
            cgroup,
            container,
            device,
            dev,
            fs,
            path,
            path_from,
            subvolume_dev: subvolume_dev(record.subvolume),
            ino: inode(record.ino),
            index: record.index,
            stack: self.frames(&stack.frames),
        }))
    }
}

/// What an event says of a task's cgroup.
#[derive(Default)]
struct CgroupFields {
    cgroup_id: Option<u64>,
    cgroup: Option<SmolStr>,
    container: Option<SmolStr>,
}

impl Enricher {
    fn cgroup(&mut self, id: u64) -> CgroupFields {
        let Some(found) = self.cgroups.get(id) else { return CgroupFields::default() };
        let Cgroup { path, container } = (*found).clone();
        CgroupFields { cgroup_id: Some(id), cgroup: path, container }
    }
}

/// The inode of an event: a page of swap has none.
fn inode(ino: u64) -> Option<u64> {
    (ino != 0).then_some(ino)
}

/// The context of an unstable write.
pub(crate) const fn unstable_write_context(key: &UnstableKey) -> Context {
    if key.context == PAGE_MKWRITE { Context::PageMkwrite } else { Context::WriteBegin }
}

/// The grade of an unstable write.
pub(crate) const fn unstable_write_grade(key: &UnstableKey, identity: &Identity) -> Grade {
    if key.required != 0 {
        Grade::Violation
    } else if identity.is_checked() {
        Grade::Hole
    } else {
        Grade::Harmless
    }
}
