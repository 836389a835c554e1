//! The paired workload as a separate process that starts paused, so that a test can set up its
//! counters first.

use std::fs::{self, Metadata};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::Signal;
use stable_trace_analysis::event::{Event, Line, Workload, WorkloadState};

use super::agent::Agent;
use super::process::{KillOnDrop, kill_with_parent, send_signal};

/// A workload whose threads rewrite one file of 64 KiB until it is stopped. Killed on drop.
#[derive(Debug)]
pub(crate) struct Wac {
    child: KillOnDrop,
    start: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    folder: PathBuf,
}

impl Wac {
    /// Spawns a process whose 64 threads run `profile` on a file in `folder` after
    /// [`start`](Self::start).
    pub(crate) fn spawn_paused(folder: &Path, profile: &str) -> Result<Self> {
        Self::spawn_paused_with(64, folder, profile)
    }

    /// Like [`spawn_paused`](Self::spawn_paused), with another number of threads.
    pub(crate) fn spawn_paused_with(threads: u32, folder: &Path, profile: &str) -> Result<Self> {
        let mut command = Command::new("/bin/sh");
        // The shell becomes the workload, so that its process ID is known before it starts. With the lowest priority: where
        // the disk is fast 64 threads need all CPU time, and an emulated agent beside them took a minute for 3,000 lines.
        command
            .args(["-c", "read -r go && exec nice -n 19 \"$0\" \"$@\""])
            .arg(Agent::program())
            .args(["wac", "--no-trace", "-q", "--format=json", "--duration=1h"])
            .arg(format!("--threads={threads}"))
            .args(["--profile", profile, "--path"])
            .arg(folder)
            // As in `Agent::command`.
            .env_remove("SUDO_UID")
            .env_remove("SUDO_GID")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        kill_with_parent(&mut command);
        let mut child = KillOnDrop(command.spawn().context("cannot start the workload's shell")?);
        let start = child.stdin.take();
        let output = child.stdout.take().context("the workload has no standard output")?;
        Ok(Self { child, start, output: BufReader::new(output), folder: folder.to_owned() })
    }

    /// The process ID, which is the same before and after the start.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Starts the workload, and returns once all its workers exist. Their first operations may come
    /// later: [`await_progress`](Self::await_progress) waits for them.
    pub(crate) fn start(&mut self) -> Result<()> {
        let mut start = self.start.take().context("the workload was started before")?;
        start.write_all(b"go\n").context("cannot start the workload")?;
        let first = self.next()?.context("the workload ended before it started")?;
        ensure!(first.state == WorkloadState::Started, "the first event is {first:?}");
        Ok(())
    }

    /// Waits until a progress event, printed each second, has more operations than the one before.
    pub(crate) fn await_progress(&mut self) -> Result<()> {
        let mut before = None;
        loop {
            let workload = self.next()?.context("the workload ended")?;
            let operations = workload.operations;
            ensure!(workload.state == WorkloadState::Progress, "no longer running: {workload:?}");
            if before.is_some_and(|before| operations > before) {
                return Ok(());
            }
            before.get_or_insert(operations);
        }
    }

    /// The file that it rewrites: the only one in its folder while it runs.
    pub(crate) fn file(&self) -> Result<Metadata> {
        Ok(self.only_file()?.1)
    }

    /// The path of that file.
    pub(crate) fn file_path(&self) -> Result<PathBuf> {
        Ok(self.only_file()?.0)
    }

    fn only_file(&self) -> Result<(PathBuf, Metadata)> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder).context("cannot list the workload's folder")? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_file() {
                files.push((entry.path(), metadata));
            }
        }
        match files.pop() {
            Some(file) if files.is_empty() => Ok(file),
            _ => bail!("the workload's folder does not hold exactly one file"),
        }
    }

    /// Stops the workload and returns its last event. All of its threads have ended by then.
    pub(crate) fn stop(mut self) -> Result<Workload> {
        send_signal(self.child.id(), Signal::TERM)?;
        let mut last = None;
        while let Some(workload) = self.next()? {
            last = Some(workload);
        }
        let status = self.child.wait().context("cannot wait for the workload")?;
        ensure!(status.success(), "the workload failed: {status}");
        let last = last.context("the workload printed no event after its start")?;
        ensure!(last.state == WorkloadState::Finished, "the last event is {last:?}");
        Ok(last)
    }

    fn next(&mut self) -> Result<Option<Workload>> {
        let mut line = String::new();
        self.output.read_line(&mut line).context("cannot read the workload's output")?;
        if line.is_empty() {
            return Ok(None);
        }
        let line: Line = serde_json::from_str(&line)
            .with_context(|| format!("the workload printed a line that is no event: {line}"))?;
        match line.event {
            Event::Workload(workload) => Ok(Some(workload)),
            other => bail!("the workload printed another event: {other:?}"),
        }
    }
}
