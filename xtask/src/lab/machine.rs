//! One guest from its first to its last moment.

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
use super::console::Console;
use super::initrd::{self, Settings, Task};
use super::kernel::Kernel;
use super::place::{Place, target, workspace};
use super::process;
use super::qemu::{self, Hardware};
use super::series::Series;

/// Size of the plain disk, in MiB.
const PLAIN_MIB: &str = "1024";

/// A guest to be run.
#[derive(Debug)]
pub struct Machine<'a> {
    /// Where things are kept.
    pub place: &'a Place,
    /// Which kernel.
    pub series: Series,
    /// How instructions are run.
    pub engine: Engine,
    /// What it does.
    pub task: Task,
    /// The agent for `PATH` and `STABLE_TRACE`, where another than `target/dist`'s is wanted.
    pub agent: Option<PathBuf>,
    /// From QEMU's start to the end of the command; none for a shell.
    pub limit: Option<Duration>,
}

/// Where the command's output comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// How a guest ended.
#[derive(Debug)]
pub struct Ended {
    /// What came of it.
    pub outcome: Outcome,
    /// From QEMU's start until the command started, if it did.
    pub boot: Option<Duration>,
    /// From QEMU's start to its end.
    pub total: Duration,
    /// The kernel's release.
    pub release: String,
    /// The console's text.
    pub console: Console,
}

/// What came of a guest.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The command ended with this status; 128+N for signal N.
    Exit(u8),
    /// The kernel gave up, with this line.
    Panic(String),
    /// The limit was over.
    Timeout(Duration),
    /// The guest could not be set up, or QEMU ended by itself.
    Failed(String),
}

/// What the threads that listen to a guest tell.
enum News {
    Output(Stream, Vec<u8>),
    Status(String),
    Closed,
}

impl Machine<'_> {
    /// Runs it to its end. QEMU is gone when this returns, and when this thread dies.
    ///
    /// # Errors
    /// If it cannot be started, or `sink` fails.
    pub fn run(&self, sink: &mut dyn FnMut(Stream, &[u8]) -> Result<()>) -> Result<Ended> {
        let kernel = Kernel::ensure(self.place, self.series)?;
        let folder = self.place.run()?;
        let paths = Paths::lay_out(folder.path())?;
        let settings = self.settings(&kernel)?;
        let initrd = initrd::build(&kernel, &settings, &self.task)?;
        fs::write(&paths.initrd, initrd)
            .with_context(|| format!("cannot write {}", paths.initrd.display()))?;

        let (news, inbox) = sync_channel(64);
        let started = Instant::now();
        let mut qemu = self.start(&kernel, &paths, news)?;
        let mut boot = None;
        let ending = self.follow(&inbox, started, &mut boot, sink);
        if matches!(ending, Ok(Some(Outcome::Timeout(_)))) {
            qemu.ask_what_blocks();
        }
        qemu.end();
        // What QEMU had handed over is still in the sockets.
        let drained = drain(&inbox, sink);
        let console = Console::read(&paths.console);
        let outcome = match ending? {
            Some(outcome) => outcome,
            None => died(&console, &paths.log),
        };
        drained?;
        if !matches!(outcome, Outcome::Exit(_)) {
            let kept = self.place.console(self.series.name());
            // The tail is shown anyway; the whole of it is a courtesy.
            let _ = fs::copy(&paths.console, kept);
        }
        let release = kernel.release;
        Ok(Ended { outcome, boot, total: started.elapsed(), release, console })
    }

    fn settings(&self, kernel: &Kernel) -> Result<Settings> {
        let mut settings = Settings::default();
        let agent = match &self.agent {
            Some(path) => path.clone(),
            None => target().join("dist/stable-trace"),
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
        // Prometheus, where the tests have fetched it.
        path.push(target().join("tools/bin"));
        path.push(":");
        path.push("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        settings.set("LAB_PATH", path);
        settings.set("LAB_KERNEL", self.series.name());
        settings.set("LAB_MODULES", &kernel.modules);
        settings.set("LAB_PLAIN_MB", PLAIN_MIB);
        settings.set("LAB_NVME_IMAGE", "/lab/nvme.img");
        settings.set("LAB_DIRECTORY", std::env::current_dir().unwrap_or_else(|_| workspace()));
        if let Task::Shell { rows, columns, terminal } = &self.task {
            settings.set("LAB_INTERACTIVE", "1");
            settings.set("LAB_ROWS", rows.to_string());
            settings.set("LAB_COLUMNS", columns.to_string());
            settings.set("LAB_TERM", terminal);
        }
        Ok(settings)
    }

    fn start(&self, kernel: &Kernel, paths: &Paths, news: SyncSender<News>) -> Result<Qemu> {
        let (out, out_there) = pair()?;
        let (err, err_there) = pair()?;
        let (status, status_there) = pair()?;
        let (monitor, monitor_there) = pair()?;
        let terminal = matches!(self.task, Task::Shell { .. });
        let hardware = Hardware {
            engine: self.engine,
            kernel,
            initrd: &paths.initrd,
            share: &paths.share,
            console: &paths.console,
            nvme: &paths.nvme,
            monitor: &monitor_there,
            terminal,
        };
        let ports =
            [("lab.out", &out_there), ("lab.err", &err_there), ("lab.status", &status_there)];
        let mut command = qemu::command(&hardware, &ports);
        let log = File::create(&paths.log)
            .with_context(|| format!("cannot write {}", paths.log.display()))?;
        command.stderr(log);
        if !terminal {
            command.stdin(Stdio::null()).stdout(Stdio::null());
        }
        // A shell's terminal has to be put right again, which QEMU does when it is asked to end.
        let signal = if terminal { Signal::TERM } else { Signal::KILL };
        let inherited = vec![out_there, err_there, status_there, monitor_there];
        process::tie(&mut command, signal, inherited);
        let child = command.spawn().map_err(|error| {
            anyhow::anyhow!("cannot start {} ({error}): run `cargo xtask setup`", qemu::PROGRAM)
        })?;
        listen(out, Stream::Out, news.clone());
        listen(err, Stream::Err, news.clone());
        watch(status, news);
        Ok(Qemu { child, monitor })
    }

    /// Until the command's status is there, QEMU is gone (none) or the time is up.
    fn follow(
        &self,
        inbox: &Receiver<News>,
        started: Instant,
        boot: &mut Option<Duration>,
        sink: &mut dyn FnMut(Stream, &[u8]) -> Result<()>,
    ) -> Result<Option<Outcome>> {
        let far = Duration::from_hours(365 * 24);
        loop {
            let left = self.limit.unwrap_or(far).saturating_sub(started.elapsed());
            // Without this, a guest that never stops talking would never be out of time.
            if left.is_zero() {
                return Ok(self.limit.map(Outcome::Timeout));
            }
            match inbox.recv_timeout(left) {
                Ok(News::Output(stream, bytes)) => sink(stream, &bytes)?,
                Ok(News::Status(line)) => match verdict(&line) {
                    Said::Ready => *boot = Some(started.elapsed()),
                    Said::Done(outcome) => return Ok(Some(outcome)),
                },
                Ok(News::Closed) | Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

/// QEMU, which ends with this value.
struct Qemu {
    child: Child,
    monitor: UnixStream,
}

impl Qemu {
    fn end(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Has a hung guest's kernel say on its console which tasks are blocked, and where: magic
    /// `SysRq`, all messages to the console (9), blocked tasks (w).
    fn ask_what_blocks(&mut self) {
        for key in ["9", "w"] {
            // A kernel that does not listen any more shows the console it has.
            let _ = writeln!(self.monitor, "sendkey alt-sysrq-{key}");
            // The monitor presses keys for 100 ms; an emulated CPU needs time to answer.
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
}

impl Paths {
    fn lay_out(folder: &Path) -> Result<Self> {
        let share = folder.join("share");
        let paths = Self {
            initrd: folder.join("initrd"),
            console: folder.join("console.log"),
            log: folder.join("qemu.log"),
            // In the share, so that a test can change what the disk holds behind its back.
            nvme: share.join("nvme.img"),
            share,
        };
        let make = || {
            fs::create_dir(&paths.share)?;
            File::create(&paths.nvme)?.set_len(qemu::NVME_IMAGE)
        };
        make().with_context(|| format!("cannot lay out a run in {}", folder.display()))?;
        Ok(paths)
    }
}

enum Said {
    Ready,
    Done(Outcome),
}

fn verdict(line: &str) -> Said {
    match line.split_once(' ').unwrap_or((line, "")) {
        ("ready", _) => Said::Ready,
        ("exit", code) if code.parse::<u8>().is_ok() => {
            Said::Done(Outcome::Exit(code.parse().unwrap_or(1)))
        }
        ("fail", why) => Said::Done(Outcome::Failed(format!("the guest was not set up: {why}"))),
        _ => Said::Done(Outcome::Failed(format!("the guest reported nonsense: {line}"))),
    }
}

/// QEMU ended before the command did.
fn died(console: &Console, log: &Path) -> Outcome {
    if let Some(line) = console.panic() {
        return Outcome::Panic(line.to_owned());
    }
    let log = fs::read_to_string(log).unwrap_or_default();
    let last = log.lines().rfind(|line| !line.trim().is_empty());
    let why = last.unwrap_or("the guest switched itself off before the command ended");
    Outcome::Failed(format!("QEMU ended: {why}"))
}

fn drain(inbox: &Receiver<News>, sink: &mut dyn FnMut(Stream, &[u8]) -> Result<()>) -> Result<()> {
    for news in inbox {
        if let News::Output(stream, bytes) = news {
            sink(stream, &bytes)?;
        }
    }
    Ok(())
}

/// A connected pair: ours, and QEMU's.
fn pair() -> Result<(UnixStream, OwnedFd)> {
    let (ours, theirs) = UnixStream::pair().context("cannot make a socket for the guest")?;
    Ok((ours, theirs.into()))
}

fn listen(mut socket: UnixStream, stream: Stream, news: SyncSender<News>) {
    thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(size @ 1..) = socket.read(&mut buffer) {
            if news.send(News::Output(stream, buffer[..size].to_vec())).is_err() {
                let _ = socket.shutdown(Shutdown::Both);
                return;
            }
        }
    });
}

fn watch(socket: UnixStream, news: SyncSender<News>) {
    thread::spawn(move || {
        for line in BufReader::new(socket).lines() {
            let Ok(line) = line else { break };
            if news.send(News::Status(line)).is_err() {
                return;
            }
        }
        // The receiver may be done with this guest.
        let _ = news.send(News::Closed);
    });
}

/// One line that says what went wrong, for every outcome but a status.
///
/// # Errors
/// Always that line, unless the command ended by itself.
pub fn status_of(ended: &Ended, series: Series) -> Result<u8> {
    match &ended.outcome {
        Outcome::Exit(code) => Ok(*code),
        Outcome::Panic(line) => bail!("kernel {series} ({}) died: {line}", ended.release),
        Outcome::Timeout(limit) => bail!(
            "the guest with kernel {series} did not end within {} s and was stopped; allow more with --timeout",
            limit.as_secs()
        ),
        Outcome::Failed(why) => bail!("the guest with kernel {series} failed: {why}"),
    }
}
