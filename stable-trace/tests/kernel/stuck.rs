//! A wait that does not end: told of while it lasts, and found by `stable-trace stuck`.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::getpid;
use stable_trace_analysis::event::{Context, Event, Line, TaskState, Waiting};

use crate::harness::device_mapper::Mapping;
use crate::harness::disk_setting::DiskSetting;
use crate::harness::fuse_server::ServerProcess;
use crate::harness::poll::wait_until;
use crate::harness::shared_memory::SharedMemory;
use crate::harness::stopped_processes::StoppedProcesses;
use crate::harness::{Agent, Disk, Fs, Injection, Requirement, Scrape, Scratch, Test, program};

/// How long a wait lasts before it is told of. The test waits for it.
const STUCK_AFTER: Duration = Duration::from_secs(2);

/// How exact the age of a wait must be.
const EXACT: f64 = 1.0;

pub(crate) fn tests() -> Vec<Test> {
    let late = [Requirement::Root, Requirement::Agent];
    vec![
        Test::anywhere("a_wait_for_a_frozen_file_system_is_told_of", frozen)
            .requires_traced_loop_device()
            .requires(Requirement::Program("fsfreeze")),
        Test::anywhere("a_wait_for_a_frozen_file_system_is_found_late", of_frozen_file_system)
            .requires_all(late)
            .requires(Requirement::Program("fsfreeze")),
        Test::guest("a_wait_for_a_suspended_mapping_is_found_late", of_suspended_mapping)
            .requires_all(late)
            .requires(Requirement::Program("dmsetup")),
        Test::guest("a_wait_for_a_disk_that_does_not_answer_is_found_late", of_silent_disk)
            .requires_all(late)
            .requires(Requirement::PiDisk),
        // Earlier kernels copy the pages, so that no task waits (fs/fuse/file.c).
        Test::anywhere("a_wait_for_a_stopped_server_names_it", of_stopped_server)
            .requires_all(late)
            .requires(Requirement::KernelFrom(6, 16)),
        Test::anywhere("a_process_that_waits_while_it_executes_is_found", of_execution)
            .requires_all(late)
            .requires(Requirement::KernelFrom(6, 16)),
    ]
}

/// A frozen file system: nothing is written to it until this is dropped.
struct Frozen<'a>(&'a Path);

impl<'a> Frozen<'a> {
    fn new(mount_point: &'a Path) -> Result<Self> {
        program::run("fsfreeze", &["-f", &mount_point.to_string_lossy()])?;
        Ok(Self(mount_point))
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        if let Err(error) = program::run("fsfreeze", &["-u", &self.0.to_string_lossy()]) {
            eprintln!("{error:#}");
        }
    }
}

/// A loop device lies on a file of a frozen file system. A task that writes to the device and makes that durable waits
/// until the file system is thawed.
fn frozen() -> Result<()> {
    let below = Scratch::with_stable_writes(Fs::Ext4, Disk::loop_device(64)?, true)?;
    let image = below.path().join("image");
    File::create(&image)?.set_len(16 << 20)?;
    let disk = Disk::loop_on_file(&image)?;
    let after = format!("--stuck-after={}s", STUCK_AFTER.as_secs());
    let mut agent = Agent::start(["--min-latency=0", "--listen=127.0.0.1:0", &after])?;
    let frozen = Frozen::new(below.path())?;
    let path = disk.path.clone();
    let began = Instant::now();
    let writer = std::thread::spawn(move || {
        let mut device = File::options().write(true).open(path)?;
        device.write_all(&[1; 4096])?;
        device.sync_all()?;
        device.metadata().map(|metadata| metadata.ino())
    });
    let labels = [("device", disk.name.as_str())];
    wait_until(|| {
        let tasks = Scrape::of(&agent)?.sum("stable_trace_waiting_tasks", &labels);
        Ok((tasks < 1.0).then(|| "no task waits".to_owned()))
    })?;
    let told = await_waiting(&mut agent, &disk)?;
    let (scrape, lasts) = (Scrape::of(&agent)?, began.elapsed().as_secs_f64());
    let oldest = scrape.sum("stable_trace_oldest_wait_seconds", &labels);
    ensure!((oldest - lasts).abs() < EXACT, "{oldest} s, but the wait has lasted {lasts} s");
    let age = seconds(told.age_ns);
    ensure!(age >= STUCK_AFTER.as_secs_f64() && age <= lasts, "{age} s of {lasts} s: {told:?}");
    ensure!(!told.ended && told.context == Context::Sync, "{told:?}");
    ensure!(told.pid == std::process::id() && told.index == 0, "not this process: {told:?}");
    ensure!(!writer.is_finished(), "the writer does not wait");

    drop(frozen);
    let inode = writer.join().ok().context("the writer panicked")??;
    let lasted = began.elapsed().as_secs_f64();
    let over = await_waiting(&mut agent, &disk)?;
    let age = seconds(over.age_ns);
    ensure!(over.ended && over.tid == told.tid, "{told:?} is followed by {over:?}");
    ensure!((age - lasted).abs() < 2.0 * EXACT, "{age} s, but it lasted {lasted} s");
    wait_until(|| {
        let oldest = Scrape::of(&agent)?.sum("stable_trace_oldest_wait_seconds", &labels);
        Ok((oldest > 0.0).then(|| format!("a task waits since {oldest} s")))
    })?;
    let recording = agent.stop()?;
    let waits = recording.stalls().filter(|stall| stall.tid == told.tid).map(|stall| stall.ino);
    let waits: Vec<_> = waits.collect();
    // The inode of the block device's own page cache, not of its node in /dev.
    ensure!(waits.contains(&told.ino), "{waits:?}, told of {:?}, node {inode}", told.ino);
    let summary = recording.summary()?;
    ensure!(summary.counts.get("waiting") == Some(&2), "{:?}", summary.counts);
    ensure!(summary.waiting.is_empty(), "still waiting: {:?}", summary.waiting);
    Ok(())
}

/// How long the task has waited before anything looks at it.
const LATE: Duration = Duration::from_secs(5);

/// After this time the driver tries a command again that was not answered.
const COMMAND_LIMIT: Duration = Duration::from_secs(8);

/// On a file on a loop device on a frozen file system.
fn of_frozen_file_system() -> Result<()> {
    let below = Scratch::with_stable_writes(Fs::Ext4, Disk::loop_device(192)?, true)?;
    let image = below.path().join("image");
    File::create(&image)?.set_len(64 << 20)?;
    let above = Scratch::with_stable_writes(Fs::Ext4, Disk::loop_on_file(&image)?, true)?;
    found_late(&above, || Frozen::new(below.path()))
}

/// On a mapped device that is suspended.
fn of_suspended_mapping() -> Result<()> {
    let disk = Disk::loop_device(64)?;
    let mapping = Mapping::linear(&disk)?;
    let scratch = Scratch::new(Fs::Ext4, Disk::named(mapping.name())?)?;
    found_late(&scratch, || mapping.suspend())
}

/// On a disk that answers nothing, until its commands run into their time limit and are tried again.
fn of_silent_disk() -> Result<()> {
    let scratch = Scratch::new(Fs::Ext4, Disk::pi()?)?;
    let _limit = DiskSetting::command_limit(scratch.disk(), COMMAND_LIMIT)?;
    found_late(&scratch, || Injection::with(Injection::TIMEOUT))
}

/// Nothing is attached when a task begins to wait for a page of a file, whose device answers nothing from `hang` on
/// until the result is dropped.
fn found_late<H>(scratch: &Scratch, hang: impl FnOnce() -> Result<H>) -> Result<()> {
    let path = scratch.path().join("waited for");
    let file = File::create(&path)?;
    let ino = file.metadata()?.ino();
    // Its blocks are there, so that nothing but its pages needs the device.
    let pages = [1; 3 * 4096];
    file.write_all_at(&pages, 0)?;
    file.sync_all()?;
    ensure!(stuck()?.is_empty(), "a task waits before anything hangs");

    let hanging = hang()?;
    let began = Instant::now();
    let writer = std::thread::spawn(move || {
        let thread = rustix::thread::gettid().as_raw_pid().cast_unsigned();
        file.write_all_at(&pages, 0)?;
        file.sync_all().map(|()| thread)
    });
    wait_until(|| Ok((began.elapsed() < LATE).then(|| "the wait is young".to_owned())))?;
    let before = began.elapsed().as_secs_f64();
    let tasks = stuck()?;
    let after = began.elapsed().as_secs_f64();
    ensure!(!writer.is_finished(), "the writer does not wait");
    let device = scratch.disk().name.as_str();
    // The file system's own tasks may wait for the file too.
    let own = |task: &&Waiting| task.pid == std::process::id();
    let found: Vec<_> = tasks.iter().filter(own).collect();
    let [task] = found.as_slice() else {
        bail!("{} tasks of this process wait: {tasks:?}", found.len())
    };
    let age = seconds(task.age_ns);
    ensure!(age > before - EXACT && age < after + EXACT, "{age} s, between {before} and {after} s");
    ensure!(task.device.as_deref() == Some(device) && task.ino == Some(ino), "{task:?}");
    ensure!(task.context == Context::Sync, "{task:?}");
    ensure!(task.fs.as_deref() == Some("ext4") && task.index < 3, "{task:?}");
    ensure!(task.path.as_deref().map(Path::new) == Some(path.as_path()), "{task:?}");

    drop(hanging);
    let thread = writer.join().ok().context("the writer panicked")??;
    ensure!(task.tid == thread, "{task:?} is not thread {thread}");
    let left: Vec<_> = stuck()?.into_iter().filter(|task| task.tid == thread).collect();
    ensure!(left.is_empty(), "waits still: {left:?}");
    Ok(())
}

/// A task waits for a page whose FUSE server is stopped.
fn of_stopped_server() -> Result<()> {
    let server = ServerProcess::mount()?;
    let file = File::options().read(true).write(true).open(server.file())?;
    let (is_read, read) = channel();
    let (stop, is_stopped) = channel::<()>();
    let writer = std::thread::spawn(move || {
        let memory = SharedMemory::of(&file, 1)?;
        // A process that this one starts closes its copy, and waits for the server in that.
        drop(file);
        // The server still answers the read of the page.
        memory.write(1);
        memory.sync()?;
        is_read.send(())?;
        is_stopped.recv()?;
        memory.write(2);
        memory.sync()
    });
    read.recv().context("the page was not read")?;
    let stopped = StoppedProcesses::process(server.pid())?;
    stop.send(()).context("the writer has ended")?;
    let mut tasks = Vec::new();
    let found = wait_until(|| {
        tasks = stuck()?;
        tasks.retain(|task| task.device.as_deref() == Some(ServerProcess::SOURCE));
        Ok(tasks.is_empty().then(|| "no task waits".to_owned()))
    });
    drop(stopped);
    writer.join().ok().context("the writer panicked")??;
    found?;
    for task in tasks {
        ensure!(task.fs.as_deref() == Some("fuse"), "{task:?}");
        ensure!(task.path.as_deref().map(Path::new) == Some(&server.file()), "{task:?}");
        ensure!(task.server_pid == Some(server.pid()), "{task:?}");
        ensure!(task.server_state == Some(TaskState::Stopped), "{task:?}");
    }
    Ok(())
}

/// A process that executes another program waits for a page of a file that the kernel closes. Reads of its descriptors
/// block meanwhile on some kernels.
fn of_execution() -> Result<()> {
    let server = ServerProcess::mount()?;
    let path = server.file();
    let (from_child, to_parent) = pipe_with(PipeFlags::CLOEXEC)?;
    let (from_parent, to_child) = pipe_with(PipeFlags::CLOEXEC)?;
    let mut command = Command::new("true");
    // SAFETY: the child makes system calls and writes to a mapping of its own. It allocates nothing: the path is short.
    unsafe {
        command.pre_exec(move || {
            let file = File::options().read(true).write(true).open(&path)?;
            let memory = SharedMemory::of(&file, 1).map_err(io::Error::other)?;
            // The server still answers the read of the page.
            memory.write(1);
            rustix::io::write(&to_parent, &getpid().as_raw_pid().to_ne_bytes())?;
            rustix::io::read(&from_parent, &mut [0])?;
            // Executing closes them.
            std::mem::forget((file, memory));
            Ok(())
        });
    }
    let child = std::thread::spawn(move || command.status());
    let mut pid = [0; 4];
    ensure!(rustix::io::read(&from_child, &mut pid)? == pid.len(), "the process has not begun");
    let pid = u32::from_ne_bytes(pid);
    let stopped = StoppedProcesses::process(server.pid())?;
    rustix::io::write(&to_child, &[1])?;
    let outcome = found_while_it_executes(pid, &server);
    drop(stopped);
    let status = child.join().ok().context("the thread panicked")??;
    outcome?;
    ensure!(status.success(), "{status}");
    Ok(())
}

fn found_while_it_executes(pid: u32, server: &ServerProcess) -> Result<()> {
    wait_until(|| {
        let tasks = stuck()?;
        let Some(task) = tasks.iter().find(|task| task.pid == pid) else {
            return Ok(Some(format!("process {pid} does not wait: {tasks:?}")));
        };
        ensure!(task.server_pid == Some(server.pid()), "{task:?}");
        ensure!(task.path.as_deref().map(Path::new) == Some(&server.file()), "{task:?}");
        Ok(None)
    })?;
    // These look for descendants among all processes.
    let run = Agent::output(["run", "--listen=off", "--duration=1s", "--", "true"])?;
    let errors = String::from_utf8_lossy(&run.stderr);
    ensure!(run.status.success(), "{}: {errors}", run.status);
    let own = std::process::id().to_string();
    let trace = Agent::output(["trace", "--listen=off", "--duration=100ms", "--pid", &own])?;
    let errors = String::from_utf8_lossy(&trace.stderr);
    ensure!(trace.status.success(), "{}: {errors}", trace.status);
    Ok(())
}

/// What `stable-trace stuck` shows.
fn stuck() -> Result<Vec<Waiting>> {
    let output = Agent::output(["stuck", "--format", "json"])?;
    let (lines, errors) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{}: {errors}", output.status);
    let events = lines.lines().map(|line| match serde_json::from_str::<Line>(line)?.event {
        Event::Waiting(waiting) => Ok(waiting),
        other => bail!("no wait: {other:?}"),
    });
    events.collect()
}

#[expect(clippy::cast_precision_loss, reason = "seconds")]
fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// Reads lines until one tells of a wait for this disk.
fn await_waiting(agent: &mut Agent, disk: &Disk) -> Result<Waiting> {
    let mut told = None;
    agent.await_line(Duration::from_secs(30), |event| {
        if let Event::Waiting(waiting) = event
            && waiting.device.as_deref() == Some(&disk.name)
        {
            told = Some(waiting.clone());
        }
        told.is_some()
    })?;
    told.context("no wait was told of")
}
