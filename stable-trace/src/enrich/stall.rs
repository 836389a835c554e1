//! From records of stalls and unstable writes to events.

use stable_trace_analysis::event::{Context, Event, Grade, Stall, UnstableWrite};
use stable_trace_common::{
    record::{StallRecord, UnstableRecord},
    unstable::{PAGE_MKWRITE, UnstableKey},
};

use super::{
    decode::name,
    enricher::{Enricher, place},
    identity::Identity,
};

/// What a stall is named by if its stack names nothing.
const UNNAMED_WAIT: &str = "writeback:folio_wait_writeback";

impl Enricher {
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
        let context = context_of(&record.key);
        let (device, dev, fs) = place(&identity);
        Some(Event::UnstableWrite(UnstableWrite {
            context,
            grade: grade_of(&record.key, &identity),
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
}

/// The context of an unstable write.
#[must_use]
pub const fn context_of(key: &UnstableKey) -> Context {
    if key.context == PAGE_MKWRITE { Context::PageMkwrite } else { Context::WriteBegin }
}

/// What an unstable write means.
#[must_use]
pub const fn grade_of(key: &UnstableKey, identity: &Identity) -> Grade {
    if key.required != 0 {
        Grade::Violation
    } else if identity.checked {
        Grade::Hole
    } else {
        Grade::Harmless
    }
}
