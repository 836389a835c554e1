//! The agent as its users run it: a program, its lines, its status.

use std::cell::Cell;
use std::ffi::{OsStr, OsString};
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use stable_trace_analysis::event::{Event, Line, Stall, Start, Summary};

/// How long attaching may take: an emulated CPU verifies slowly.
const START: Duration = Duration::from_mins(2);
/// How long the agent may take to its summary once it is told to stop.
const STOP: Duration = Duration::from_mins(1);

/// How long a line may be on its way while nothing presses, and some more.
const TICK: Duration = Duration::from_millis(500);

/// A running agent. Dropped, it is killed.
#[derive(Debug)]
pub struct Agent {
    child: Child,
    inbox: Receiver<Result<Line>>,
    lines: Vec<Line>,
    errors: Option<JoinHandle<String>>,
}

/// Everything that one run said.
#[derive(Debug)]
pub struct Recording {
    /// Its lines in order.
    pub lines: Vec<Line>,
    /// What it printed on standard error.
    pub errors: String,
    /// How it ended.
    pub status: ExitStatus,
}

/// Parses a line of the stream. Its time must be RFC 3339 in UTC with nine digits of a second.
fn parse_line(text: &str) -> Result<Line> {
    let line: Line = serde_json::from_str(text)
        .with_context(|| format!("the agent printed no event: {text}"))?;
    let time = format!(r#""time":"{}""#, line.time);
    ensure!(text.contains(&time), "the time has no nanoseconds in UTC: {text}");
    Ok(line)
}

impl Agent {
    /// Where the built agent is: in `STABLE_TRACE`, which a guest has, or where cargo built it.
    pub fn program() -> PathBuf {
        std::env::var_os("STABLE_TRACE")
            .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_stable-trace")), PathBuf::from)
    }

    /// Why it cannot be run, if it cannot.
    pub fn gap() -> Option<String> {
        let program = Self::program();
        (!program.exists()).then(|| format!("no agent at {}", program.display()))
    }

    /// Starts `stable-trace ARGUMENTS --format json` and returns once its first line says that it
    /// has attached.
    pub fn start<I: IntoIterator<Item: AsRef<OsStr>>>(arguments: I) -> Result<Self> {
        Self::start_program(&Self::program(), arguments)
    }

    /// The same with another program.
    pub fn start_program<I: IntoIterator<Item: AsRef<OsStr>>>(
        program: &Path,
        arguments: I,
    ) -> Result<Self> {
        let mut agent = Self::spawn(program, arguments)?;
        agent.await_line(START, |event| matches!(event, Event::Start(_)))?;
        Ok(agent)
    }

    /// Runs `stable-trace ARGUMENTS --format json` to the end that its arguments set.
    pub fn run<I: IntoIterator<Item: AsRef<OsStr>>>(arguments: I) -> Result<Recording> {
        let mut agent = Self::spawn(&Self::program(), arguments)?;
        while agent.next_line(Duration::from_mins(10))?.is_some() {}
        agent.finish()
    }

    /// Runs `stable-trace ARGUMENTS` as it stands and returns its output and status: for `doctor`
    /// and the like.
    pub fn output<I: IntoIterator<Item: AsRef<OsStr>>>(arguments: I) -> Result<Output> {
        let program = Self::program();
        Command::new(&program)
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("cannot start {}", program.display()))
    }

    /// The agent's process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its first line.
    pub fn started(&self) -> Option<&Start> {
        self.lines.iter().find_map(|line| match &line.event {
            Event::Start(start) => Some(start),
            _ => None,
        })
    }

    /// Reads on until a line is of interest, for `limit` at most.
    pub fn await_line(&mut self, limit: Duration, wanted: impl Fn(&Event) -> bool) -> Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.next_line(left)? {
                Some(line) if wanted(&line.event) => return Ok(()),
                Some(_) => {}
                None => return Err(self.ended_too_early()),
            }
        }
    }

    /// Reads on until as many stalls as this have been streamed, or as many lost.
    pub fn await_stalls(&mut self, wanted: u64) -> Result<()> {
        let seen = Cell::new(0);
        self.await_line(START, |event| {
            seen.set(
                seen.get()
                    + match event {
                        Event::Stall(_) => 1,
                        Event::Lost(lost) => lost.count,
                        _ => 0,
                    },
            );
            seen.get() >= wanted
        })
    }

    /// Does something until it was seen to stall: once, unless the machine was so busy that all was on
    /// the disk before anybody came to wait for it.
    pub fn until_it_stalls(&mut self, mut work: impl FnMut() -> Result<()>) -> Result<()> {
        let deadline = Instant::now() + START;
        while Instant::now() < deadline {
            work()?;
            if self.stalls_within(TICK)? {
                return Ok(());
            }
        }
        bail!("nothing waited for {} s", START.as_secs())
    }

    /// Whether a stall is streamed in that time.
    fn stalls_within(&mut self, limit: Duration) -> Result<bool> {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.inbox.recv_timeout(left) {
                Ok(line) => {
                    let line = line?;
                    let stalls = matches!(line.event, Event::Stall(_));
                    self.lines.push(line);
                    if stalls {
                        return Ok(true);
                    }
                }
                Err(RecvTimeoutError::Timeout) => return Ok(false),
                Err(RecvTimeoutError::Disconnected) => return Err(self.ended_too_early()),
            }
        }
    }

    /// Presses Ctrl-C and returns everything it said, up to the summary.
    pub fn stop(self) -> Result<Recording> {
        self.signal(Signal::INT)?;
        self.wait()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(self.child.id().cast_signed()).context("the agent has no pid")?;
        kill_process(pid, signal).context("cannot signal the agent")
    }

    /// Waits for its end and returns everything it said.
    pub fn wait(mut self) -> Result<Recording> {
        while self.next_line(STOP)?.is_some() {}
        self.finish()
    }

    fn spawn<I: IntoIterator<Item: AsRef<OsStr>>>(program: &Path, arguments: I) -> Result<Self> {
        let mut all: Vec<OsString> =
            arguments.into_iter().map(|word| word.as_ref().to_owned()).collect();
        // Before a command of `run`, which takes the rest for itself.
        let at = all.iter().position(|word| word == "--").unwrap_or(all.len());
        all.splice(at..at, ["--format".into(), "json".into()]);
        // Agents run side by side; whoever wants metrics says where.
        let says = |word: &OsString| word.to_string_lossy().starts_with("--listen");
        if !all.iter().take(at).any(says) {
            all.splice(at..at, ["--listen=off".into()]);
        }
        let mut command = Command::new(program);
        command.args(&all).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // SAFETY: between fork and exec the closure makes two system calls: it takes no lock and
        // allocates nothing.
        unsafe {
            command.pre_exec(|| {
                // Tests that a shell started in the background ignore it, and a shell that stands in
                // for the agent cannot trap what was ignored when it began.
                libc::signal(libc::SIGINT, libc::SIG_DFL);
                Ok(set_parent_process_death_signal(Some(Signal::KILL))?)
            });
        }
        let mut child =
            command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        let out = child.stdout.take().context("the agent has no standard output")?;
        let mut err = child.stderr.take().context("the agent has no standard error")?;
        let (sender, inbox) = channel();
        thread::spawn(move || {
            for line in BufReader::new(out).lines() {
                let line = line
                    .context("cannot read the agent's output")
                    .and_then(|text| parse_line(&text));
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let errors = thread::spawn(move || {
            let mut text = Vec::new();
            // What was read before an error is still of use.
            let _ = err.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        });
        Ok(Self { child, inbox, lines: Vec::new(), errors: Some(errors) })
    }

    fn next_line(&mut self, limit: Duration) -> Result<Option<&Line>> {
        match self.inbox.recv_timeout(limit) {
            Ok(line) => {
                self.lines.push(line?);
                Ok(self.lines.last())
            }
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => {
                bail!("the agent said nothing of what was awaited for {} s", limit.as_secs())
            }
        }
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
        Ok(Recording { lines: std::mem::take(&mut self.lines), errors, status })
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Recording {
    /// The first line.
    pub fn start(&self) -> Result<&Start> {
        match self.lines.first().map(|line| &line.event) {
            Some(Event::Start(start)) => Ok(start),
            _ => bail!("the agent's first line is no start: {}", self.errors.trim()),
        }
    }

    /// The last line.
    pub fn summary(&self) -> Result<&Summary> {
        match self.lines.last().map(|line| &line.event) {
            Some(Event::Summary(summary)) => Ok(summary),
            _ => bail!("the agent's last line is no summary: {}", self.errors.trim()),
        }
    }

    /// How many lines the stream says it lost, line by line.
    pub fn lost(&self) -> u64 {
        let lost = self.lines.iter().map(|line| match &line.event {
            Event::Lost(lost) => lost.count,
            _ => 0,
        });
        lost.sum()
    }

    /// The stalls that were streamed.
    pub fn stalls(&self) -> impl Iterator<Item = &Stall> {
        self.lines.iter().filter_map(|line| match &line.event {
            Event::Stall(stall) => Some(stall),
            _ => None,
        })
    }
}
