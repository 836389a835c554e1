//! From records to events: names for what the kernel gave as numbers.

use stable_trace_common::{
    record::{StallRecord, UnstableRecord},
    unstable::{PAGE_MKWRITE, UnstableKey},
};

use crate::{
    event::{Context, Event, Grade, Stall, UnstableWrite},
    kernel::sysfs::parse_dev,
    stream::{
        decode::name,
        identity::{Identities, Identity},
        paths::Paths,
        stacks::Stacks,
    },
};

/// What a stall is named by if its stack names nothing.
const UNNAMED_WAIT: &str = "writeback:folio_wait_writeback";

/// Knows what stacks and devices mean.
pub struct Narrator {
    /// Stacks by name.
    pub stacks: Stacks,
    /// File systems and devices.
    pub identities: Identities,
    /// Paths of files.
    pub paths: Paths,
    /// `--stacks`.
    pub show_stacks: bool,
}

impl Narrator {
    /// Turns a record into a stall; nothing if the user did not ask for its device.
    pub fn stall(&mut self, record: &StallRecord) -> Option<Event> {
        let identity = self.identities.get(&record.backing);
        if !identity.wanted {
            return None;
        }
        let known = self.stacks.get(record.stack);
        let (device, dev, fs) = place(&identity);
        Some(Event::Stall(Stall {
            context: known.meaning.context,
            function: known.meaning.function.clone().unwrap_or_else(|| UNNAMED_WAIT.to_owned()),
            duration_ns: record.duration_ns,
            pid: record.pid,
            tid: record.tid,
            comm: name(&record.comm),
            cgroup_id: record.cgroup_id,
            device,
            dev,
            fs,
            path: self.path_of(&identity, record.ino, record.pid),
            ino: record.ino,
            index: record.index,
            stack: self.frames(&known.frames),
        }))
    }

    /// Turns a record into an unstable write; nothing if the user did not ask for its device.
    pub fn unstable_write(&mut self, record: &UnstableRecord) -> Option<Event> {
        let identity = self.identities.get(&record.key.backing);
        if !identity.wanted {
            return None;
        }
        let known = self.stacks.get(record.stack);
        let context = context(&record.key);
        let (device, dev, fs) = place(&identity);
        Some(Event::UnstableWrite(UnstableWrite {
            context,
            grade: grade(&record.key, &identity),
            function: known.meaning.function.clone().unwrap_or_else(|| context.name().to_owned()),
            pid: record.pid,
            tid: record.tid,
            comm: name(&record.comm),
            cgroup_id: record.cgroup_id,
            device,
            dev,
            fs,
            path: self.path_of(&identity, record.ino, record.pid),
            ino: record.ino,
            index: record.index,
            stack: self.frames(&known.frames),
        }))
    }

    /// The path of a file that a process waits for or writes to.
    fn path_of(&mut self, identity: &Identity, ino: u64, pid: u32) -> Option<String> {
        let dev = parse_dev(&identity.backing.as_ref()?.dev)?;
        self.paths.find((dev, ino), Some(pid))
    }

    fn frames(&self, frames: &[String]) -> Option<Vec<String>> {
        (self.show_stacks && !frames.is_empty()).then(|| frames.to_vec())
    }
}

/// Device, its number and the file system, as far as they are known.
#[must_use]
pub fn place(identity: &Identity) -> (Option<String>, Option<String>, Option<String>) {
    let Some(backing) = &identity.backing else { return (None, None, None) };
    (Some(backing.device.clone()), Some(backing.dev.clone()), backing.fs.clone())
}

/// The context of an unstable write.
#[must_use]
pub const fn context(key: &UnstableKey) -> Context {
    if key.context == PAGE_MKWRITE { Context::PageMkwrite } else { Context::WriteBegin }
}

/// What an unstable write means.
#[must_use]
pub const fn grade(key: &UnstableKey, identity: &Identity) -> Grade {
    if key.required != 0 {
        Grade::Violation
    } else if identity.checked {
        Grade::Hole
    } else {
        Grade::Harmless
    }
}
