//! Processes stopped with `SIGSTOP`.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

use super::process::{send_signal, threads};
use super::wait_until;

/// Processes that are stopped until this is dropped.
#[derive(Debug)]
pub(crate) struct StoppedProcesses(Vec<u32>);

impl StoppedProcesses {
    /// Stops one process, and returns once none of its threads runs or waits for a disk.
    pub(crate) fn process(pid: u32) -> Result<Self> {
        Self::all([pid])
    }

    /// Stops the children of a process, of which it has at least one.
    pub(crate) fn children_of(pid: u32) -> Result<Self> {
        let children = children(pid)?;
        ensure!(!children.is_empty(), "process {pid} has no child");
        Self::all(children)
    }

    fn all(processes: impl IntoIterator<Item = u32>) -> Result<Self> {
        let mut stopped = Self(Vec::new());
        for process in processes {
            send_signal(process, Signal::STOP)?;
            stopped.0.push(process);
        }
        wait_until(|| {
            let mut running = stopped.0.iter().filter_map(|pid| running_thread(*pid).transpose());
            running.next().transpose()
        })?;
        Ok(stopped)
    }
}

impl Drop for StoppedProcesses {
    fn drop(&mut self) {
        for process in &self.0 {
            // It may have been killed meanwhile.
            let _ = send_signal(*process, Signal::CONT);
        }
    }
}

/// Lists the children of all threads: the kernel keeps a list for each thread.
fn children(pid: u32) -> Result<Vec<u32>> {
    let mut all = Vec::new();
    for tid in threads(pid)? {
        let path = format!("/proc/{pid}/task/{tid}/children");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        for number in text.split_whitespace() {
            all.push(number.parse()?);
        }
    }
    Ok(all)
}

/// Describes a thread of the process that has not stopped yet.
fn running_thread(pid: u32) -> Result<Option<String>> {
    for tid in threads(pid)? {
        if let Some(state) = state(Path::new(&format!("/proc/{pid}/task/{tid}")))
            && state != "T"
        {
            return Ok(Some(format!("thread {tid} of process {pid} is in state {state}")));
        }
    }
    Ok(None)
}

/// Reads the word after the name in `stat` (proc(5)); `None` for a thread that has ended.
fn state(thread: &Path) -> Option<String> {
    let stat = fs::read_to_string(thread.join("stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').next().map(str::to_owned)
}
