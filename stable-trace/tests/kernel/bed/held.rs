//! Processes that stand still.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::eventually;

/// Processes that are stopped until this is dropped.
#[derive(Debug)]
pub struct Held(Vec<Pid>);

impl Held {
    /// Stops one process, and returns once no thread of it runs or waits for a disk.
    pub fn process(pid: u32) -> Result<Self> {
        let pid = Pid::from_raw(pid.cast_signed()).with_context(|| format!("no process {pid}"))?;
        Self::all([pid])
    }

    /// The same for the children of a process, of which it has at least one.
    pub fn children_of(pid: u32) -> Result<Self> {
        let children = children(pid)?;
        ensure!(!children.is_empty(), "process {pid} has no child");
        Self::all(children)
    }

    fn all(processes: impl IntoIterator<Item = Pid>) -> Result<Self> {
        let mut held = Self(Vec::new());
        for process in processes {
            kill_process(process, Signal::STOP).context("cannot stop a process")?;
            held.0.push(process);
        }
        eventually(|| {
            let mut moving = held.0.iter().filter_map(|process| moving(*process).transpose());
            moving.next().transpose()
        })?;
        Ok(held)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        for process in &self.0 {
            // It may have been killed meanwhile.
            let _ = kill_process(*process, Signal::CONT);
        }
    }
}

/// Each thread has its own.
fn children(pid: u32) -> Result<Vec<Pid>> {
    let mut all = Vec::new();
    let threads = format!("/proc/{pid}/task");
    for thread in fs::read_dir(&threads).with_context(|| format!("cannot list {threads}"))? {
        let path = thread?.path().join("children");
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        for number in text.split_whitespace() {
            all.extend(Pid::from_raw(number.parse()?));
        }
    }
    Ok(all)
}

/// A thread of the process that has not stopped yet.
fn moving(pid: Pid) -> Result<Option<String>> {
    let threads = format!("/proc/{}/task", pid.as_raw_nonzero());
    for thread in fs::read_dir(&threads).with_context(|| format!("cannot list {threads}"))? {
        if let Some(state) = state(&thread?.path())
            && state != "T"
        {
            return Ok(Some(format!("a thread of {threads} is in state {state}")));
        }
    }
    Ok(None)
}

/// The word after the name in `stat` (proc(5)); nothing of a thread that has ended.
fn state(thread: &Path) -> Option<String> {
    let stat = fs::read_to_string(thread.join("stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').next().map(str::to_owned)
}
