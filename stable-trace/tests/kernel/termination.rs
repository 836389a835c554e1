//! The end of a run: exit status, summary, and nothing left in the kernel.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::harness::process::send_signal;
use crate::harness::{
    Agent, BpfObjects, Disk, Fs, Requirement, Scrape, Scratch, Test, Wac, program,
};

pub(crate) fn tests() -> Vec<Test> {
    let native = |name: &str, body: fn() -> Result<()>| {
        Test::native(name, body).requires(Requirement::Root).requires(Requirement::Agent)
    };
    vec![
        native("a_signal_ends_a_trace_with_its_summary", a_signal_ends_a_trace),
        native("a_signal_ends_the_command_and_its_status_is_passed_on", a_signal_ends_the_command),
        native("every_process_of_a_command_ends_with_the_run", whole_job_ends),
        native("a_command_that_ignores_sigterm_is_killed", ignoring_command_is_killed),
        native("a_hangup_ends_a_run_in_order", hangup),
        native("a_hangup_that_is_ignored_ends_nothing", ignored_hangup),
        native("a_second_signal_ends_the_agent_at_once", a_second_signal_ends_the_agent),
        native("the_status_of_a_command_is_passed_on", command_status_is_passed_on),
        native("a_missing_command_is_a_one_line_error", missing_command),
        native("the_duration_ends_a_trace_and_a_command", duration_is_over),
        native("a_closed_output_pipe_is_not_an_error", closed_output_pipe)
            .requires(Requirement::Program("losetup")),
        native("a_killed_agent_leaves_nothing_in_the_kernel", a_killed_agent_leaves_nothing),
        native("the_mounts_of_other_processes_are_unchanged", mounts_are_unchanged),
    ]
}

fn a_signal_ends_a_trace() -> Result<()> {
    for signal in [Signal::INT, Signal::TERM] {
        let agent = Agent::start(["trace"])?;
        let objects = BpfObjects::of_process(agent.pid())?;
        ensure!(!objects.programs.is_empty(), "no program is attached");
        agent.signal(signal)?;
        let recording = agent.wait()?;
        ensure!(recording.status.code() == Some(0), "{signal:?}: {}", recording.status);
        ensure!(recording.errors.is_empty(), "{signal:?}: {}", recording.errors);
        let summary = recording.summary()?;
        ensure!(summary.elapsed_ns > 0 && summary.counts["start"] == 1, "{summary:?}");
        objects.await_freed()?;
    }
    Ok(())
}

fn a_signal_ends_the_command() -> Result<()> {
    for signal in [Signal::INT, Signal::TERM] {
        let agent = Agent::start(["run", "--", "sleep", "3600"])?;
        agent.signal(signal)?;
        let recording = agent.wait()?;
        // Either way the agent sends SIGTERM, which sleep does not handle.
        ensure!(recording.status.code() == Some(128 + 15), "{signal:?}: {}", recording.status);
        recording.summary()?;
        ensure!(recording.errors.is_empty(), "{signal:?}: {}", recording.errors);
    }
    Ok(())
}

/// A named pipe on which a command reports its progress, one word a line.
struct Progress {
    folder: TempDir,
    reader: BufReader<File>,
}

impl Progress {
    fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("progress");
        program::run("mkfifo", &[&path.to_string_lossy()])?;
        // Also opened for writing, so that the open does not wait for a writer.
        let file = fs::OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Self { folder, reader: BufReader::new(file) })
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("progress")
    }

    /// Reads the next word. Fails after a minute.
    fn next(&mut self) -> Result<String> {
        if self.reader.buffer().is_empty() {
            let mut fds = [PollFd::new(self.reader.get_ref(), PollFlags::IN)];
            let limit = Timespec { tv_sec: 60, tv_nsec: 0 };
            ensure!(poll(&mut fds, Some(&limit))? > 0, "the command reports no progress");
        }
        let mut line = String::new();
        self.reader.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }
}

/// The processes of a command that ignores SIGTERM, except that it reports it. Killed on drop.
struct IgnoringCommand(Vec<u32>);

/// It closes the standard streams, because the test reads the agent's to their end.
const IGNORING_SCRIPT: &str = r#"
exec >/dev/null 2>&1 3>"$0"
trap 'echo terminated >&3' TERM
trap '' INT
sleep 3600 &
echo $$ >&3
echo $! >&3
while :; do wait; done
"#;

impl IgnoringCommand {
    fn await_start(progress: &mut Progress) -> Result<Self> {
        let mut command = Self(Vec::new());
        for _ in 0..2 {
            command.0.push(progress.next()?.parse()?);
        }
        Ok(command)
    }
}

impl Drop for IgnoringCommand {
    fn drop(&mut self) {
        for pid in &self.0 {
            // It may have ended by itself.
            let _ = send_signal(*pid, Signal::KILL);
        }
    }
}

fn a_second_signal_ends_the_agent() -> Result<()> {
    for (second, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let mut progress = Progress::new()?;
        let path = progress.path();
        let command = ["run", "--", "sh", "-c", IGNORING_SCRIPT].map(PathBuf::from);
        let agent = Agent::start(command.iter().chain([&path]))?;
        let objects = BpfObjects::of_process(agent.pid())?;
        let ignoring = IgnoringCommand::await_start(&mut progress)?;

        agent.signal(Signal::INT)?;
        // The agent has handled the first signal and waits for the command.
        ensure!(progress.next()? == "terminated", "the command did not get SIGTERM");
        agent.signal(second)?;
        let recording = agent.wait()?;

        ensure!(recording.status.code() == Some(code), "{second:?}: {}", recording.status);
        let running = Path::new("/proc").join(ignoring.0[0].to_string());
        ensure!(running.exists(), "the command ended, so the agent may have waited for it");
        objects.await_freed()?;
    }
    Ok(())
}

/// Processes of every kind: the shell, a child in the background, one whose parent has exited, and one in a session of
/// its own. Each writes its pid.
const JOB_SCRIPT: &str = r#"
exec 3>"$0"
echo $$ >&3
sleep 3600 >/dev/null 2>&1 3>&- &
echo $! >&3
(sh -c 'echo $$ >&3; exec sleep 3600 >/dev/null 2>&1 3>&-' &)
setsid sh -c 'echo $$ >&3; exec sleep 3600 >/dev/null 2>&1 3>&-' &
sleep 3600
echo late
"#;

/// A signal and `--duration` end all of it, and the shell does not go on to its next command.
fn whole_job_ends() -> Result<()> {
    for (options, signal) in
        [(&[][..], Some(Signal::INT)), (&[][..], Some(Signal::HUP)), (&["--duration=1s"][..], None)]
    {
        let mut progress = Progress::new()?;
        let path = progress.path();
        let mut arguments: Vec<_> = ["run"].iter().chain(options).map(PathBuf::from).collect();
        arguments.extend(["--", "sh", "-c", JOB_SCRIPT].map(PathBuf::from));
        arguments.push(path);
        let agent = Agent::start(arguments)?;
        let mut job = IgnoringCommand(Vec::new());
        for _ in 0..4 {
            job.0.push(progress.next()?.parse()?);
        }
        if let Some(signal) = signal {
            agent.signal(signal)?;
        }
        // Fails at a line that is no event, such as that of the shell.
        let recording = agent.wait()?;
        ensure!(recording.status.code() == Some(143), "{}", recording.status);
        ensure!(recording.errors.is_empty(), "{}", recording.errors);
        recording.summary()?;
        for pid in &job.0 {
            let running = is_running(*pid)?;
            ensure!(!running, "{options:?} {signal:?}: process {pid} is left");
        }
    }
    Ok(())
}

/// Whether a process has not exited.
fn is_running(pid: u32) -> Result<bool> {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return Ok(false) };
    let (_, rest) = stat.rsplit_once(") ").context("a stat without a name")?;
    Ok(!rest.starts_with(['Z', 'X']))
}

fn ignoring_command_is_killed() -> Result<()> {
    let mut progress = Progress::new()?;
    let path = progress.path();
    let command = ["run", "--", "sh", "-c", IGNORING_SCRIPT].map(PathBuf::from);
    let agent = Agent::start(command.iter().chain([&path]))?;
    let ignoring = IgnoringCommand::await_start(&mut progress)?;
    agent.signal(Signal::TERM)?;
    let recording = agent.wait()?;
    ensure!(progress.next()? == "terminated", "the command did not get SIGTERM");
    ensure!(recording.status.code() == Some(128 + 9), "{}", recording.status);
    ensure!(recording.errors.contains("killed"), "{}", recording.errors);
    recording.summary()?;
    for pid in &ignoring.0 {
        ensure!(!is_running(*pid)?, "process {pid} is left");
    }
    Ok(())
}

/// The connection to a terminal is dropped.
fn hangup() -> Result<()> {
    let agent = Agent::start(["trace"])?;
    agent.signal(Signal::HUP)?;
    let recording = agent.wait()?;
    ensure!(recording.status.code() == Some(0), "{}", recording.status);
    ensure!(recording.errors.is_empty(), "{}", recording.errors);
    recording.summary()?;
    Ok(())
}

fn ignored_hangup() -> Result<()> {
    let program = Agent::program();
    let arguments = [program.as_os_str(), "trace".as_ref(), "--listen=127.0.0.1:0".as_ref()];
    let agent = Agent::start_program(Path::new("nohup"), arguments)?;
    agent.signal(Signal::HUP)?;
    // The run answers after it would have handled the signal.
    for _ in 0..3 {
        Scrape::of(&agent)?;
    }
    let recording = agent.stop()?;
    ensure!(recording.status.code() == Some(0), "{}: {}", recording.status, recording.errors);
    recording.summary()?;
    Ok(())
}

fn command_status_is_passed_on() -> Result<()> {
    for (script, code) in
        [("exit 0", 0), ("exit 7", 7), ("exit 255", 255), ("kill -KILL $$", 137), ("kill $$", 143)]
    {
        let recording = Agent::run(["run", "--", "sh", "-c", script])?;
        ensure!(recording.status.code() == Some(code), "{script}: {}", recording.status);
        ensure!(recording.errors.is_empty(), "{script}: {}", recording.errors);
        recording.summary()?;
    }
    Ok(())
}

fn missing_command() -> Result<()> {
    let output = Agent::output(["run", "--listen=off", "--", "/no/such/command"])?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1), "{}", output.status);
    ensure!(errors.lines().count() == 1 && errors.contains("/no/such/command"), "{errors}");
    Ok(())
}

fn duration_is_over() -> Result<()> {
    let recording = Agent::run(["trace", "--duration=100ms"])?;
    ensure!(recording.status.code() == Some(0), "{}", recording.status);
    let elapsed = recording.summary()?.elapsed_ns;
    ensure!(elapsed >= 100_000_000, "a trace of 100 ms ended after {elapsed} ns");
    let recording = Agent::run(["run", "--duration=100ms", "--", "sleep", "3600"])?;
    ensure!(recording.status.code() == Some(143), "{}", recording.status);
    recording.summary()?;
    Ok(())
}

/// `stable-trace | head -1`, while there are events.
fn closed_output_pipe() -> Result<()> {
    let scratch = Scratch::with_stable_writes(Fs::Ext4, Disk::loop_device(64)?, true)?;
    let mut wac = Wac::spawn_paused(scratch.path(), "a")?;
    for format in ["json", "text"] {
        let mut agent = Command::new(Agent::program())
            .args(["--listen=off", "--min-latency=0", "--format", format])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut out = BufReader::new(agent.stdout.take().context("no standard output")?);
        let mut first = String::new();
        out.read_line(&mut first)?;
        drop(out);
        if format == "json" {
            wac.start()?;
        }
        let output = agent.wait_with_output()?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(!first.is_empty(), "{format}: no first line: {errors}");
        ensure!(output.status.code() == Some(0), "{format}: {}: {errors}", output.status);
        ensure!(errors.is_empty(), "{format}: {errors}");
    }
    wac.stop()?;
    Ok(())
}

fn a_killed_agent_leaves_nothing() -> Result<()> {
    let agent = Agent::start(["--min-latency=0"])?;
    let objects = BpfObjects::of_process(agent.pid())?;
    let loaded = objects.remaining();
    let waits = loaded.iter().filter(|name| name.starts_with("program writeback_wait"));
    ensure!(waits.count() == 2, "the agent's objects in the kernel's lists: {loaded:?}");
    ensure!(loaded.iter().any(|name| name == "map EVENTS"), "{loaded:?}");

    agent.signal(Signal::KILL)?;
    let recording = agent.wait()?;

    ensure!(recording.status.code().is_none(), "{}", recording.status);
    objects.await_freed()
}

/// An agent that finds no tracefs mounts it only for itself.
fn mounts_are_unchanged() -> Result<()> {
    // A mount namespace without tracefs and with shared propagation, which is systemd's default.
    let script = "umount -l /sys/kernel/tracing /sys/kernel/debug 2>/dev/null; \
         mount --make-rshared / || exit 1; \
         cat /proc/self/mounts >\"$1/before\"; \
         \"$0\" trace --listen=off --format=json --duration=200ms >\"$1/stream\" & \
         while [ ! -s \"$1/stream\" ]; do kill -0 $! || exit 1; sleep 0.01; done; \
         cat /proc/self/mounts >\"$1/during\"; wait $!";
    let folder = tempfile::tempdir()?;
    let mut command = Command::new("unshare");
    let status = command
        .args(["--mount", "sh", "-c", script])
        .arg(Agent::program())
        .arg(folder.path())
        .stdin(Stdio::null())
        .spawn()
        .context("cannot start unshare")?
        .wait()?;
    ensure!(status.success(), "the agent does not run without tracefs: {status}");
    let mounts = |name: &str| fs::read_to_string(folder.path().join(name));
    ensure!(!mounts("before")?.contains("tracefs"), "tracefs is mounted: {}", mounts("before")?);
    ensure!(mounts("before")? == mounts("during")?, "{}", mounts("during")?);
    Ok(())
}
