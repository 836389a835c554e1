//! Runs the agent as users do, and reads its stream and exit status.

use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use rustix::process::Signal;
use stable_trace_analysis::event::{Event, Line, Stall, Start, Summary};

use super::process::{KillOnDrop, kill_with_parent, send_signal};

/// Timeout of the attach phase: an emulated CPU verifies programs slowly.
const START_TIMEOUT: Duration = Duration::from_mins(2);

/// Timeout from the request to stop to the summary.
const STOP_TIMEOUT: Duration = Duration::from_mins(1);

/// A stall reaches the stream within this time on an idle machine.
const STREAM_DELAY: Duration = Duration::from_millis(500);

/// A running agent. Killed on drop.
#[derive(Debug)]
pub(crate) struct Agent {
    child: KillOnDrop,
    /// Lines that have not been parsed: their reader must not hold the agent up.
    inbox: Receiver<io::Result<String>>,
    lines: Vec<Line>,
    errors: Option<JoinHandle<String>>,
}

/// The complete output of one run.
#[derive(Debug)]
pub(crate) struct Recording {
    /// The lines of the stream, in order.
    pub(crate) lines: Vec<Line>,
    /// Standard error.
    pub(crate) errors: String,
    pub(crate) status: ExitStatus,
}

/// Parses a line of the stream. Its time must be RFC 3339 in UTC with nine digits of a second.
fn parse_line(text: &str) -> Result<Line> {
    let line: Line = serde_json::from_str(text)
        .with_context(|| format!("the agent printed a line that is no event: {text}"))?;
    let time = format!(r#""time":"{}""#, line.time);
    ensure!(text.contains(&time), "the time has no nanoseconds in UTC: {text}");
    Ok(line)
}

impl Agent {
    /// The path of the agent: in a guest `STABLE_TRACE`, otherwise where cargo built it.
    pub(crate) fn program() -> PathBuf {
        std::env::var_os("STABLE_TRACE")
            .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_stable-trace")), PathBuf::from)
    }

    /// Why the agent cannot be run, if it cannot.
    pub(crate) fn missing() -> Option<String> {
        let program = Self::program();
        (!program.exists()).then(|| format!("there is no agent at {}", program.display()))
    }

    /// A command of the agent, without standard input. The variables of `sudo` are removed, so that
    /// a run under `sudo` behaves as a run by root.
    pub(crate) fn command() -> Command {
        let mut command = Command::new(Self::program());
        command.env_remove("SUDO_UID").env_remove("SUDO_GID").stdin(Stdio::null());
        command
    }

    /// Starts `stable-trace ARGUMENTS --format json` and returns once it has printed its `start`
    /// line: it has attached.
    pub(crate) fn start<I: IntoIterator<Item: AsRef<OsStr>>>(arguments: I) -> Result<Self> {
        Self::start_program(&Self::program(), arguments)
    }

    /// Like [`start`](Self::start), with another program.
    pub(crate) fn start_program<I: IntoIterator<Item: AsRef<OsStr>>>(
        program: &Path,
        arguments: I,
    ) -> Result<Self> {
        let mut agent = Self::spawn(program, arguments)?;
        agent.await_line(START_TIMEOUT, |event| matches!(event, Event::Start(_)))?;
        Ok(agent)
    }

    /// Runs `stable-trace ARGUMENTS --format json` until it ends by itself.
    pub(crate) fn run<I: IntoIterator<Item: AsRef<OsStr>>>(arguments: I) -> Result<Recording> {
        let mut agent = Self::spawn(&Self::program(), arguments)?;
        while agent.next_line(Duration::from_mins(10))?.is_some() {}
        agent.finish()
    }

    /// Runs `stable-trace ARGUMENTS` unchanged and returns its output: for commands without a
    /// stream, such as `doctor`.
    pub(crate) fn output<I: IntoIterator<Item: AsRef<OsStr>>>(arguments: I) -> Result<Output> {
        let program = Self::program();
        Command::new(&program)
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("cannot start {}", program.display()))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The `start` line.
    pub(crate) fn started(&self) -> Option<&Start> {
        self.lines.iter().find_map(|line| match &line.event {
            Event::Start(start) => Some(start),
            _ => None,
        })
    }

    /// Reads lines until one is `wanted`. Fails after `timeout`.
    pub(crate) fn await_line(
        &mut self,
        timeout: Duration,
        mut wanted: impl FnMut(&Event) -> bool,
    ) -> Result<()> {
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.next_line(left)? {
                Some(line) if wanted(&line.event) => return Ok(()),
                Some(_) => {}
                None => return Err(self.ended_too_early()),
            }
        }
    }

    /// Reads lines until `wanted` stalls were streamed or reported lost.
    pub(crate) fn await_stalls(&mut self, wanted: u64) -> Result<()> {
        self.await_count(wanted, |event| match event {
            Event::Stall(_) => 1,
            Event::Lost(lost) => lost.events(),
            _ => 0,
        })
    }

    /// Reads lines until `wanted` stalls of a process were streamed.
    pub(crate) fn await_stalls_of(&mut self, pid: u32, wanted: u64) -> Result<()> {
        self.await_count(wanted, |event| {
            u64::from(matches!(event, Event::Stall(stall) if stall.pid == pid))
        })
    }

    /// Reads lines until they count `wanted` together.
    fn await_count(&mut self, wanted: u64, count: impl Fn(&Event) -> u64) -> Result<()> {
        let mut seen = 0;
        self.await_line(START_TIMEOUT, |event| {
            seen += count(event);
            seen >= wanted
        })
    }

    /// Repeats `work` until a stall is streamed. Once suffices, unless a busy machine finishes the
    /// writeback before a task waits for it.
    pub(crate) fn repeat_until_stall(
        &mut self,
        mut work: impl FnMut() -> Result<()>,
    ) -> Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        while Instant::now() < deadline {
            work()?;
            if self.stalls_within(STREAM_DELAY)? {
                return Ok(());
            }
        }
        bail!("no task stalled within {} s", START_TIMEOUT.as_secs())
    }

    /// Whether a stall is streamed within this time.
    fn stalls_within(&mut self, timeout: Duration) -> Result<bool> {
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.inbox.recv_timeout(left) {
                Ok(text) => {
                    if matches!(self.take(text)?.event, Event::Stall(_)) {
                        return Ok(true);
                    }
                }
                Err(RecvTimeoutError::Timeout) => return Ok(false),
                Err(RecvTimeoutError::Disconnected) => return Err(self.ended_too_early()),
            }
        }
    }

    /// Sends SIGINT and returns the complete output, including the summary.
    pub(crate) fn stop(self) -> Result<Recording> {
        self.signal(Signal::INT)?;
        self.wait()
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        send_signal(self.child.id(), signal)
    }

    /// Waits until the agent ends and returns its complete output.
    pub(crate) fn wait(mut self) -> Result<Recording> {
        while self.next_line(STOP_TIMEOUT)?.is_some() {}
        self.finish()
    }

    fn spawn<I: IntoIterator<Item: AsRef<OsStr>>>(program: &Path, arguments: I) -> Result<Self> {
        let mut all: Vec<OsString> =
            arguments.into_iter().map(|word| word.as_ref().to_owned()).collect();
        // Before the command of `run`, which takes all that follows.
        let at = all.iter().position(|word| word == "--").unwrap_or(all.len());
        all.splice(at..at, ["--format".into(), "json".into()]);
        // Agents run side by side: only a test that reads metrics gives an address.
        let listens = |word: &OsString| word.to_string_lossy().starts_with("--listen");
        if !all.iter().take(at).any(listens) {
            all.splice(at..at, ["--listen=off".into()]);
        }
        let mut command = Command::new(program);
        command.args(&all).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        kill_with_parent(&mut command);
        // SAFETY: between fork and exec the closure makes one system call: it takes no lock and
        // allocates nothing.
        unsafe {
            command.pre_exec(|| {
                // A background job of a shell ignores SIGINT, and a shell that stands in for the
                // agent cannot trap a signal that is ignored at its start.
                libc::signal(libc::SIGINT, libc::SIG_DFL);
                Ok(())
            });
        }
        let child =
            command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        let mut child = KillOnDrop(child);
        let out = child.stdout.take().context("the agent has no standard output")?;
        let mut err = child.stderr.take().context("the agent has no standard error")?;
        let (sender, inbox) = channel();
        thread::spawn(move || {
            for line in BufReader::new(out).lines() {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let errors = thread::spawn(move || {
            let mut text = Vec::new();
            // The text before a read error is still useful.
            let _ = err.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        });
        Ok(Self { child, inbox, lines: Vec::new(), errors: Some(errors) })
    }

    fn next_line(&mut self, timeout: Duration) -> Result<Option<&Line>> {
        match self.inbox.recv_timeout(timeout) {
            Ok(text) => self.take(text).map(Some),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => {
                bail!("the agent did not print the awaited line within {} s", timeout.as_secs())
            }
        }
    }

    /// Parses a line of the stream and keeps it.
    fn take(&mut self, text: io::Result<String>) -> Result<&Line> {
        let text = text.context("cannot read the agent's output")?;
        Ok(self.lines.push_mut(parse_line(&text)?))
    }

    fn ended_too_early(&mut self) -> anyhow::Error {
        match self.end() {
            Ok((status, errors)) => {
                anyhow!("the agent ended too early ({status}): {}", errors.trim())
            }
            Err(error) => error,
        }
    }

    fn end(&mut self) -> Result<(ExitStatus, String)> {
        let status = self.child.wait().context("cannot wait for the agent")?;
        let errors = self.errors.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        Ok((status, errors))
    }

    fn finish(mut self) -> Result<Recording> {
        let (status, errors) = self.end()?;
        Ok(Recording { lines: self.lines, errors, status })
    }
}

impl Recording {
    pub(crate) fn start(&self) -> Result<&Start> {
        match self.lines.first().map(|line| &line.event) {
            Some(Event::Start(start)) => Ok(start),
            _ => bail!("the agent's first line is not `start`: {}", self.errors.trim()),
        }
    }

    pub(crate) fn summary(&self) -> Result<&Summary> {
        match self.lines.last().map(|line| &line.event) {
            Some(Event::Summary(summary)) => Ok(summary),
            _ => bail!("the agent's last line is not `summary`: {}", self.errors.trim()),
        }
    }

    /// How many events the `lost` lines of the stream report.
    pub(crate) fn lost(&self) -> u64 {
        let lost = self.lines.iter().map(|line| match &line.event {
            Event::Lost(lost) => lost.events(),
            _ => 0,
        });
        lost.sum()
    }

    /// The streamed stalls.
    pub(crate) fn stalls(&self) -> impl Iterator<Item = &Stall> {
        self.lines.iter().filter_map(|line| match &line.event {
            Event::Stall(stall) => Some(stall),
            _ => None,
        })
    }
}
