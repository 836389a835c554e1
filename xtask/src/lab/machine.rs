//! Runs one guest.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::Signal;

use super::accel::Engine;
use super::cache_dir::CacheDir;
use super::console::Console;
use super::initrd::{self, Settings, Task};
use super::kernel::Kernel;
use super::process;
use super::qemu::{self, Hardware};
use super::series::Series;
use crate::workspace;

/// Size of the plain disk, in MiB.
const PLAIN_MIB: &str = "1024";

#[derive(Debug)]
pub(crate) struct Machine<'a> {
    pub(crate) cache: &'a CacheDir,
    pub(crate) series: Series,
    pub(crate) engine: Engine,
    pub(crate) task: Task,
    /// The agent in the guest's `PATH` and `STABLE_TRACE` [default: that of `cargo xtask dist`].
    pub(crate) agent: Option<PathBuf>,
    /// Limit from QEMU's start to the end of the command.
    pub(crate) limit: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Out,
    Err,
}

#[derive(Debug)]
pub(crate) struct GuestExit {
    pub(crate) outcome: Outcome,
    /// From QEMU's start to the start of the command, if it started.
    pub(crate) boot: Option<Duration>,
    /// From QEMU's start to its end.
    pub(crate) total: Duration,
    pub(crate) release: String,
    pub(crate) console: Console,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The command's exit status; 128 + N after signal N.
    Exit(u8),
    /// The kernel panicked with this message.
    Panic(String),
    /// The limit was exceeded.
    Timeout(Duration),
    /// The guest's set-up failed, or QEMU ended early.
    Failed(String),
}

/// What the threads that read a guest's sockets send.
enum Message {
    Output(Stream, Vec<u8>),
    Status(String),
    Closed,
}

impl Machine<'_> {
    /// Runs the guest to its end. QEMU has ended when this returns, or when this thread ends.
    pub(crate) fn run(
        &self,
        sink: &mut dyn FnMut(Stream, &[u8]) -> Result<()>,
    ) -> Result<GuestExit> {
        let kernel = Kernel::ensure(self.cache, self.series)?;
        let folder = self.cache.run()?;
        let paths = Paths::create(folder.path())?;
        let settings = self.settings(&kernel)?;
        let initrd = initrd::build(&kernel, &settings, &self.task)?;
        fs::write(&paths.initrd, initrd)
            .with_context(|| format!("cannot write {}", paths.initrd.display()))?;

        let (sender, messages) = sync_channel(64);
        let started = Instant::now();
        let mut qemu = self.start(&kernel, &paths, sender)?;
        let mut boot = None;
        let ending = self.follow(&messages, started, &mut boot, sink);
        if matches!(ending, Ok(Some(Outcome::Timeout(_)))) {
            qemu.log_blocked_tasks();
        }
        qemu.end();
        // The sockets may still contain output.
        let drained = drain(&messages, sink);
        let console = Console::read(&paths.console);
        let outcome = match ending? {
            Some(outcome) => outcome,
            None => early_end(&console, &paths.log),
        };
        drained?;
        if !matches!(outcome, Outcome::Exit(_)) {
            let copy = self.cache.console(self.series.name());
            // Best effort: the tail is shown in any case.
            let _ = fs::copy(&paths.console, copy);
        }
        let release = kernel.release;
        Ok(GuestExit { outcome, boot, total: started.elapsed(), release, console })
    }

    fn settings(&self, kernel: &Kernel) -> Result<Settings> {
        let mut settings = Settings::default();
        let agent = match &self.agent {
            Some(path) => path.clone(),
            None => workspace::dist()?.join("stable-trace"),
        };
        let mut path = std::ffi::OsString::new();
        if agent.exists() {
            let agent = agent
                .canonicalize()
                .with_context(|| format!("cannot resolve the path {}", agent.display()))?;
            if let Some(folder) = agent.parent() {
                path.push(folder);
                path.push(":");
            }
            settings.set("STABLE_TRACE", agent);
        }
        // Contains Prometheus if the tests have installed it.
        path.push(workspace::tools()?.join("bin"));
        path.push(":");
        path.push("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        settings.set("LAB_PATH", path);
        settings.set("LAB_KERNEL", self.series.name());
        settings.set("LAB_MODULES", &kernel.modules);
        settings.set("LAB_PLAIN_MB", PLAIN_MIB);
        settings.set("LAB_NVME_IMAGE", "/lab/nvme.img");
        settings.set("LAB_NVME_PATHS_IMAGE", "/lab/nvme-paths.img");
        settings.set("LAB_DIRECTORY", std::env::current_dir().or_else(|_| workspace::root())?);
        if let Task::Shell { rows, columns, terminal } = &self.task {
            settings.set("LAB_INTERACTIVE", "1");
            settings.set("LAB_ROWS", rows.to_string());
            settings.set("LAB_COLUMNS", columns.to_string());
            settings.set("LAB_TERM", terminal);
        }
        Ok(settings)
    }

    fn start(&self, kernel: &Kernel, paths: &Paths, sender: SyncSender<Message>) -> Result<Qemu> {
        let (out, qemu_out) = pair()?;
        let (err, qemu_err) = pair()?;
        let (status, qemu_status) = pair()?;
        let (monitor, qemu_monitor) = pair()?;
        let terminal = matches!(self.task, Task::Shell { .. });
        let hardware = Hardware {
            engine: self.engine,
            kernel,
            initrd: &paths.initrd,
            share: &paths.share,
            console: &paths.console,
            nvme: &paths.nvme,
            multipath: &paths.multipath,
            monitor: &qemu_monitor,
            terminal,
        };
        let ports = [("lab.out", &qemu_out), ("lab.err", &qemu_err), ("lab.status", &qemu_status)];
        let mut command = qemu::command(&hardware, &ports);
        let log = File::create(&paths.log)
            .with_context(|| format!("cannot write {}", paths.log.display()))?;
        command.stderr(log);
        if !terminal {
            command.stdin(Stdio::null()).stdout(Stdio::null());
        }
        // On SIGTERM, QEMU restores the settings of the terminal.
        let signal = if terminal { Signal::TERM } else { Signal::KILL };
        let inherited = vec![qemu_out, qemu_err, qemu_status, qemu_monitor];
        process::tie(&mut command, signal, inherited);
        let child = command
            .spawn()
            .map_err(|error| anyhow::anyhow!("cannot start {}: {error}", qemu::PROGRAM))?;
        forward_output(out, Stream::Out, sender.clone());
        forward_output(err, Stream::Err, sender.clone());
        watch_status(status, sender);
        Ok(Qemu { child, monitor })
    }

    /// Handles messages until the command exits, the limit is exceeded, or QEMU ends (`None`).
    fn follow(
        &self,
        messages: &Receiver<Message>,
        started: Instant,
        boot: &mut Option<Duration>,
        sink: &mut dyn FnMut(Stream, &[u8]) -> Result<()>,
    ) -> Result<Option<Outcome>> {
        let no_limit = Duration::from_hours(365 * 24);
        loop {
            let left = self.limit.unwrap_or(no_limit).saturating_sub(started.elapsed());
            // `recv_timeout` does not time out while the guest keeps printing.
            if left.is_zero() {
                return Ok(self.limit.map(Outcome::Timeout));
            }
            match messages.recv_timeout(left) {
                Ok(Message::Output(stream, bytes)) => sink(stream, &bytes)?,
                Ok(Message::Status(line)) => match parse_status(&line) {
                    Status::Ready => *boot = Some(started.elapsed()),
                    Status::Ended(outcome) => return Ok(Some(outcome)),
                },
                Ok(Message::Closed) | Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

/// A QEMU process, which is killed on drop.
struct Qemu {
    child: Child,
    monitor: UnixStream,
}

impl Qemu {
    fn end(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Makes the kernel of a hung guest print its blocked tasks on the console, by magic `SysRq`: all
    /// messages to the console (9), blocked tasks (w).
    fn log_blocked_tasks(&mut self) {
        for key in ["9", "w"] {
            // Best effort: QEMU may have ended.
            let _ = writeln!(self.monitor, "sendkey alt-sysrq-{key}");
            // The monitor presses keys for 100 ms, and an emulated CPU needs time to respond.
            thread::sleep(Duration::from_secs(1));
        }
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        self.end();
    }
}

/// The files of one run.
struct Paths {
    initrd: PathBuf,
    console: PathBuf,
    log: PathBuf,
    share: PathBuf,
    nvme: PathBuf,
    multipath: PathBuf,
}

impl Paths {
    fn create(folder: &Path) -> Result<Self> {
        let share = folder.join("share");
        let paths = Self {
            initrd: folder.join("initrd"),
            console: folder.join("console.log"),
            log: folder.join("qemu.log"),
            // In the share, so that a test can corrupt the content of a disk.
            nvme: share.join("nvme.img"),
            multipath: share.join("nvme-paths.img"),
            share,
        };
        let make = || {
            fs::create_dir(&paths.share)?;
            File::create(&paths.nvme)?.set_len(qemu::NVME_IMAGE)?;
            File::create(&paths.multipath)?.set_len(qemu::NVME_PATHS_IMAGE)
        };
        make()
            .with_context(|| format!("cannot create the files of a run in {}", folder.display()))?;
        Ok(paths)
    }
}

enum Status {
    Ready,
    Ended(Outcome),
}

fn parse_status(line: &str) -> Status {
    match line.split_once(' ').unwrap_or((line, "")) {
        ("ready", _) => Status::Ready,
        ("exit", code) if code.parse::<u8>().is_ok() => {
            Status::Ended(Outcome::Exit(code.parse().unwrap_or(1)))
        }
        ("fail", why) => {
            Status::Ended(Outcome::Failed(format!("the guest's set-up failed: {why}")))
        }
        _ => {
            Status::Ended(Outcome::Failed(format!("the guest reported an unknown status: {line}")))
        }
    }
}

/// The outcome after QEMU has ended before the command.
fn early_end(console: &Console, log: &Path) -> Outcome {
    if let Some(line) = console.panic() {
        return Outcome::Panic(line.to_owned());
    }
    let log = fs::read_to_string(log).unwrap_or_default();
    let last = log.lines().rfind(|line| !line.trim().is_empty());
    let why = last.unwrap_or("the guest powered off before the command ended");
    Outcome::Failed(format!("QEMU ended: {why}"))
}

fn drain(
    messages: &Receiver<Message>,
    sink: &mut dyn FnMut(Stream, &[u8]) -> Result<()>,
) -> Result<()> {
    for message in messages {
        if let Message::Output(stream, bytes) = message {
            sink(stream, &bytes)?;
        }
    }
    Ok(())
}

/// A socket pair; the second socket is QEMU's.
fn pair() -> Result<(UnixStream, OwnedFd)> {
    let (own, qemu) = UnixStream::pair().context("cannot create a socket for the guest")?;
    Ok((own, qemu.into()))
}

fn forward_output(mut socket: UnixStream, stream: Stream, sender: SyncSender<Message>) {
    thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(size @ 1..) = socket.read(&mut buffer) {
            if sender.send(Message::Output(stream, buffer[..size].to_vec())).is_err() {
                let _ = socket.shutdown(Shutdown::Both);
                return;
            }
        }
    });
}

fn watch_status(socket: UnixStream, sender: SyncSender<Message>) {
    thread::spawn(move || {
        for line in BufReader::new(socket).lines() {
            let Ok(line) = line else { break };
            if sender.send(Message::Status(line)).is_err() {
                return;
            }
        }
        // The receiver may have been dropped.
        let _ = sender.send(Message::Closed);
    });
}

/// The command's exit status, or an error of one line for every other outcome.
pub(crate) fn status_of(ended: &GuestExit, series: Series) -> Result<u8> {
    match &ended.outcome {
        Outcome::Exit(code) => Ok(*code),
        Outcome::Panic(line) => bail!("kernel {series} ({}) panicked: {line}", ended.release),
        Outcome::Timeout(limit) => bail!(
            "the guest with kernel {series} did not end within {} s and was stopped; allow more with --timeout",
            limit.as_secs()
        ),
        Outcome::Failed(why) => bail!("the guest with kernel {series} failed: {why}"),
    }
}
