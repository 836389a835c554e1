//! The paired workload as a process of its own, which waits for a word before it begins: whoever
//! counts has time to look at it first.

use std::fs::{self, Metadata};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use stable_trace_analysis::event::{Event, Line, Workload, WorkloadState};

use super::agent::Agent;

/// A workload whose threads rewrite one file of 64 KiB until it is told to end. Dropped, it is killed.
#[derive(Debug)]
pub struct Wac {
    child: Child,
    go: Option<ChildStdin>,
    says: BufReader<ChildStdout>,
    folder: PathBuf,
}

impl Wac {
    /// A process whose 64 threads will run `profile` on a file in `folder`, when it is told to
    /// [`go`](Self::go).
    pub fn ready(folder: &Path, profile: &str) -> Result<Self> {
        Self::of_threads(64, folder, profile)
    }

    /// The same with another number of threads.
    pub fn of_threads(threads: u32, folder: &Path, profile: &str) -> Result<Self> {
        let mut command = Command::new("/bin/sh");
        // The same process before and after the word, so that it can be followed from the start.
        command
            .args(["-c", "read -r go && exec \"$0\" \"$@\""])
            .arg(Agent::program())
            .args(["wac", "--no-trace", "-q", "--format=json", "--duration=1h"])
            .arg(format!("--threads={threads}"))
            .args(["--profile", profile, "--path"])
            .arg(folder)
            // A developer who tests under sudo tests the same as everybody.
            .env_remove("SUDO_UID")
            .env_remove("SUDO_GID")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        // SAFETY: between fork and exec the closure makes one system call: it takes no lock and
        // allocates nothing.
        unsafe {
            command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
        }
        let mut child = command.spawn().context("cannot start the workload's shell")?;
        let go = child.stdin.take();
        let says = BufReader::new(child.stdout.take().context("the workload has no output")?);
        Ok(Self { child, go, says, folder: folder.to_owned() })
    }

    /// Its process, before and after it was told to go.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Has it begin, and returns once all its workers are there. Their first operations may be yet
    /// to come: whoever wants some waits until it [`works`](Self::works).
    pub fn go(&mut self) -> Result<()> {
        let mut go = self.go.take().context("the workload was told to go before")?;
        go.write_all(b"go\n").context("the workload does not listen")?;
        let first = self.next()?.context("the workload ended before it began")?;
        ensure!(first.state == WorkloadState::Started, "the workload began with {first:?}");
        Ok(())
    }

    /// Waits until it says, as it does each second, that it has done more than it said before.
    pub fn works(&mut self) -> Result<()> {
        let mut before = None;
        loop {
            let workload = self.next()?.context("the workload ended")?;
            let operations = workload.operations;
            ensure!(workload.state == WorkloadState::Progress, "no longer at work: {workload:?}");
            if before.is_some_and(|before| operations > before) {
                return Ok(());
            }
            before.get_or_insert(operations);
        }
    }

    /// The file that it rewrites: the only one in its folder, while it runs.
    pub fn file(&self) -> Result<Metadata> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder).context("cannot list the workload's folder")? {
            let metadata = entry?.metadata()?;
            if metadata.is_file() {
                files.push(metadata);
            }
        }
        match files.pop() {
            Some(file) if files.is_empty() => Ok(file),
            _ => bail!("the workload's folder holds other than one file"),
        }
    }

    /// Ends it and returns its last word. When this returns, none of its threads is left.
    pub fn stop(mut self) -> Result<Workload> {
        if let Some(pid) = Pid::from_raw(self.child.id().cast_signed()) {
            kill_process(pid, Signal::TERM).context("cannot signal the workload")?;
        }
        let mut last = None;
        while let Some(workload) = self.next()? {
            last = Some(workload);
        }
        let status = self.child.wait().context("cannot wait for the workload")?;
        ensure!(status.success(), "the workload failed: {status}");
        let last = last.context("the workload had no last word")?;
        ensure!(last.state == WorkloadState::Finished, "the workload ended with {last:?}");
        Ok(last)
    }

    fn next(&mut self) -> Result<Option<Workload>> {
        let mut line = String::new();
        self.says.read_line(&mut line).context("cannot read the workload's output")?;
        if line.is_empty() {
            return Ok(None);
        }
        let line: Line = serde_json::from_str(&line)
            .with_context(|| format!("the workload printed no event: {line}"))?;
        match line.event {
            Event::Workload(workload) => Ok(Some(workload)),
            other => bail!("not of a workload: {other:?}"),
        }
    }
}

impl Drop for Wac {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
