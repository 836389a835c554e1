//! How a run ends: in order, whoever ends it, and with nothing left behind.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::harness::{Agent, Disk, Fs, BpfObjects, Requirement, Scratch, Test, Wac, program};

pub fn tests() -> Vec<Test> {
    let native = |name: &str, body: fn() -> Result<()>| {
        Test::native(name, body).requires(Requirement::Root).requires(Requirement::Agent)
    };
    vec![
        native("a_signal_ends_a_trace_with_its_summary", a_signal_ends_a_trace),
        native("a_signal_ends_the_command_and_its_status_is_passed_on", a_signal_ends_the_command),
        native("a_second_signal_ends_it_at_once", a_second_signal_ends_it_at_once),
        native("a_commands_status_is_passed_on", a_commands_status_is_passed_on),
        native("no_such_command_is_one_line", no_such_command_is_one_line),
        native("the_time_is_up_for_a_trace_and_for_a_command", the_time_is_up),
        native("a_reader_that_has_seen_enough_is_no_error", a_reader_that_has_seen_enough)
            .requires(Requirement::Program("losetup")),
        native("a_killed_agent_leaves_nothing_in_the_kernel", a_killed_agent_leaves_nothing),
        native("mounts_are_as_they_were", mounts_are_as_they_were),
    ]
}

fn a_signal_ends_a_trace() -> Result<()> {
    for signal in [Signal::INT, Signal::TERM] {
        let agent = Agent::start(["trace"])?;
        let loaded = BpfObjects::of_process(agent.pid())?;
        ensure!(!loaded.programs.is_empty(), "no program is attached");
        agent.signal(signal)?;
        let recording = agent.wait()?;
        ensure!(recording.status.code() == Some(0), "{signal:?}: {}", recording.status);
        ensure!(recording.errors.is_empty(), "{signal:?}: {}", recording.errors);
        let summary = recording.summary()?;
        ensure!(summary.elapsed_ns > 0 && summary.counts["start"] == 1, "{summary:?}");
        loaded.await_freed()?;
    }
    Ok(())
}

fn a_signal_ends_the_command() -> Result<()> {
    for signal in [Signal::INT, Signal::TERM] {
        let agent = Agent::start(["run", "--", "sleep", "3600"])?;
        agent.signal(signal)?;
        let recording = agent.wait()?;
        // Either way the command gets SIGTERM, which sleep does nothing about.
        ensure!(recording.status.code() == Some(128 + 15), "{signal:?}: {}", recording.status);
        recording.summary()?;
        ensure!(recording.errors.is_empty(), "{signal:?}: {}", recording.errors);
    }
    Ok(())
}

/// A pipe with a name, for a command to say how far it is.
struct Words {
    folder: TempDir,
    reader: BufReader<File>,
}

impl Words {
    fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("words");
        program::run("mkfifo", &[&path.to_string_lossy()])?;
        // For writing too: so that opening it waits for nobody.
        let file = fs::OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Self { folder, reader: BufReader::new(file) })
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("words")
    }

    /// The next word; an error if none comes.
    fn next(&mut self) -> Result<String> {
        if self.reader.buffer().is_empty() {
            let mut fds = [PollFd::new(self.reader.get_ref(), PollFlags::IN)];
            let limit = Timespec { tv_sec: 60, tv_nsec: 0 };
            ensure!(poll(&mut fds, Some(&limit))? > 0, "the command says nothing");
        }
        let mut line = String::new();
        self.reader.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }
}

/// A command that says so when it is told to end, and goes on; it is killed when this is dropped.
struct Deaf(Vec<Pid>);

/// The standard streams are given up, because the test reads the agent's to their end.
const DEAF: &str = r#"
exec >/dev/null 2>&1 3>"$0"
trap 'echo told >&3' TERM
trap '' INT
sleep 3600 &
echo $$ >&3
echo $! >&3
while :; do wait; done
"#;

impl Deaf {
    fn hear(words: &mut Words) -> Result<Self> {
        let mut deaf = Self(Vec::new());
        for _ in 0..2 {
            let pid = words.next()?;
            deaf.0.push(Pid::from_raw(pid.parse()?).context("no pid")?);
        }
        Ok(deaf)
    }
}

impl Drop for Deaf {
    fn drop(&mut self) {
        for pid in &self.0 {
            // It may have ended by itself.
            let _ = kill_process(*pid, Signal::KILL);
        }
    }
}

fn a_second_signal_ends_it_at_once() -> Result<()> {
    for (second, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let mut words = Words::new()?;
        let path = words.path();
        let command = ["run", "--", "sh", "-c", DEAF].map(PathBuf::from);
        let agent = Agent::start(command.iter().chain([&path]))?;
        let loaded = BpfObjects::of_process(agent.pid())?;
        let deaf = Deaf::hear(&mut words)?;

        agent.signal(Signal::INT)?;
        // So the agent has heard the first one, and waits for the command.
        ensure!(words.next()? == "told", "the command was not told to end");
        agent.signal(second)?;
        let recording = agent.wait()?;

        ensure!(recording.status.code() == Some(code), "{second:?}: {}", recording.status);
        let goes_on = Path::new("/proc").join(deaf.0[0].as_raw_nonzero().to_string());
        ensure!(goes_on.exists(), "the command ended, so nothing was at once");
        loaded.await_freed()?;
    }
    Ok(())
}

fn a_commands_status_is_passed_on() -> Result<()> {
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

fn no_such_command_is_one_line() -> Result<()> {
    let output = Agent::output(["run", "--listen=off", "--", "/no/such/command"])?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1), "{}", output.status);
    ensure!(errors.lines().count() == 1 && errors.contains("/no/such/command"), "{errors}");
    Ok(())
}

fn the_time_is_up() -> Result<()> {
    let recording = Agent::run(["trace", "--duration=100ms"])?;
    ensure!(recording.status.code() == Some(0), "{}", recording.status);
    let elapsed = recording.summary()?.elapsed_ns;
    ensure!(elapsed >= 100_000_000, "100 ms were over after {elapsed} ns");
    let recording = Agent::run(["run", "--duration=100ms", "--", "sleep", "3600"])?;
    ensure!(recording.status.code() == Some(143), "{}", recording.status);
    recording.summary()?;
    Ok(())
}

/// `stable-trace | head -1`, while there is something to say.
fn a_reader_that_has_seen_enough() -> Result<()> {
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
    let loaded = BpfObjects::of_process(agent.pid())?;
    let there = loaded.remaining();
    let waits = there.iter().filter(|name| name.starts_with("program writeback_wait"));
    ensure!(waits.count() == 2, "the kernel's list has of the agent's: {there:?}");
    ensure!(there.iter().any(|name| name == "map EVENTS"), "{there:?}");

    agent.signal(Signal::KILL)?;
    let recording = agent.wait()?;

    ensure!(recording.status.code().is_none(), "{}", recording.status);
    loaded.await_freed()
}

/// tracefs is mounted for the agent alone if it is nowhere; nobody else sees it come or go.
fn mounts_are_as_they_were() -> Result<()> {
    // As on a machine where nobody has mounted tracefs, and where mounts spread, as systemd has it:
    // in a namespace of our own.
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
    let theirs = |name: &str| fs::read_to_string(folder.path().join(name));
    ensure!(!theirs("before")?.contains("tracefs"), "there is a tracefs: {}", theirs("before")?);
    ensure!(theirs("before")? == theirs("during")?, "{}", theirs("during")?);
    Ok(())
}
