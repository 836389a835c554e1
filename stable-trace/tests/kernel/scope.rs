//! The scope of a run: the descendants of a process or of the agent's command, beside the load of a
//! stranger that runs for the whole test.

use std::collections::BTreeSet;
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{fs, io};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use stable_trace_analysis::event::Event;

use crate::harness::process::{KillOnDrop, kill_group, kill_with_parent, send_signal};
use crate::harness::{
    Agent, Disk, Fs, Recording, Requirement, Scratch, StoppedProcesses, Test, TracefsInstance, Wac,
    host, wait_until,
};

/// Stalls that a test waits for.
const MANY: u64 = 200;

/// How long the stranger pauses between two writes.
const PAUSE: Duration = Duration::from_millis(20);

/// An emulated machine is slow.
const TIMEOUT: Duration = Duration::from_mins(2);

/// A workload of two threads in a script, with the agent as `$STABLE_TRACE`.
const WAC: &str = "\"$STABLE_TRACE\" wac --no-trace -q --threads=2 --profile=a";

pub(crate) fn tests() -> Vec<Test> {
    let anywhere = |name: &str, body: fn() -> Result<()>| {
        Test::anywhere(name, body).requires_traced_loop_device()
    };
    vec![
        anywhere("pid_includes_later_descendants", forking_server),
        anywhere("pid_includes_present_descendants", present_descendants),
        anywhere("pid_is_of_the_pid_namespace", pid_namespace)
            .requires(Requirement::Program("unshare")),
        anywhere("run_excludes_strangers", run_excludes_strangers),
        anywhere("run_with_all_includes_strangers", run_with_all),
        anywhere("run_includes_a_daemon", run_includes_a_daemon)
            .requires(Requirement::Program("setsid")),
        anywhere("wac_excludes_strangers", wac_excludes_strangers),
        anywhere("comm_selects_a_process_name", process_name),
        anywhere("a_filter_without_a_match_is_reported", nothing_matches),
    ]
}

/// A load that no run of these tests selects, and tracefs's count of its waits: a thread of the test, which pauses
/// after each write. An emulated machine has room for an agent's start beside it.
struct Stranger {
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<()>>>,
    waits: TracefsInstance,
    /// Unmounted after the load has ended.
    _scratch: Scratch,
}

impl Stranger {
    fn start() -> Result<Self> {
        let scratch = loop_device()?;
        let waits = TracefsInstance::recording_process(&host::wait_event(), std::process::id())?;
        let file = fs::File::create(scratch.path().join("stranger"))?;
        let done = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let done = Arc::clone(&done);
            move || {
                while !done.load(Ordering::Relaxed) {
                    file.write_all_at(&[1; 4096], 0)?;
                    file.sync_data()?;
                    std::thread::sleep(PAUSE);
                }
                Ok(())
            }
        });
        let stranger = Self { done, thread: Some(thread), waits, _scratch: scratch };
        stranger.waits.await_hits(1)?;
        Ok(stranger)
    }

    /// No stall is the stranger's, and the summary counts its waits as left out. `before` is
    /// tracefs's count when the agent had attached.
    fn is_left_out_of(&self, recording: &Recording, before: u64) -> Result<()> {
        let pid = std::process::id();
        let foreign = recording.stalls().find(|stall| stall.pid == pid);
        ensure!(foreign.is_none(), "a stall of the stranger {pid}: {foreign:?}");
        let summary = recording.summary()?;
        let filtered = summary.waits_filtered.as_ref().context("no filter is reported")?;
        let during = self.waits.hits()?.saturating_sub(before);
        ensure!(during > 0, "the stranger did not wait: nothing was left out");
        ensure!(filtered.tasks > 0 && filtered.devices == 0, "{during} waits: {filtered:?}");
        Ok(())
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        // A failed write is noticed as a load without waits.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn loop_device() -> Result<Scratch> {
    Scratch::with_stable_writes(Fs::Ext4, Disk::loop_device(64)?, true)
}

/// A shell with all that it has started, which are killed on drop.
struct Shell(KillOnDrop);

impl Shell {
    /// Runs a script in `folder`, with the agent as `$STABLE_TRACE`.
    fn spawn(script: &str, folder: &Path) -> Result<Self> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).current_dir(folder).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        with_program(&mut command);
        kill_with_parent(&mut command);
        Ok(Self(KillOnDrop(command.spawn().context("cannot start a shell")?)))
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // Its processes may have ended already.
        let _ = kill_group(self.0.id());
    }
}

fn with_program(command: &mut Command) {
    command.env("STABLE_TRACE", Agent::program()).env_remove("SUDO_UID").env_remove("SUDO_GID");
}

/// Waits until stalls of this many processes were streamed.
fn await_processes(agent: &mut Agent, wanted: usize) -> Result<BTreeSet<u32>> {
    let seen = std::cell::RefCell::new(BTreeSet::new());
    agent.await_line(TIMEOUT, |event| {
        if let Event::Stall(stall) = event {
            seen.borrow_mut().insert(stall.pid);
        }
        seen.borrow().len() >= wanted
    })?;
    Ok(seen.into_inner())
}

/// The shell creates the workloads after the agent has attached.
fn forking_server() -> Result<()> {
    let stranger = Stranger::start()?;
    let scratch = loop_device()?;
    let script = format!("read -r go; for i in 1 2 3 4; do {WAC} --duration=3s & done; wait");
    let mut server = Shell::spawn(&script, scratch.path())?;
    let pid = server.0.id().to_string();
    let mut agent = Agent::start(["--min-latency=0", "--pid", &pid])?;
    let before = stranger.waits.hits()?;
    drop(server.0.stdin.take());
    await_processes(&mut agent, 4)?;
    ensure!(server.0.wait()?.success(), "a workload failed");
    let recording = agent.stop()?;
    stranger.is_left_out_of(&recording, before)?;
    let scope = recording.start()?.scope.as_deref();
    ensure!(scope == Some(&format!("--pid {pid} and its descendants")), "{scope:?}");
    let mut probes = recording.start()?.probes.iter();
    let forks = probes.find(|probe| probe.function == "sched:sched_process_fork");
    ensure!(forks.is_some_and(|probe| probe.attached), "forks are not probed: {forks:?}");
    Ok(())
}

/// The workloads run before the agent starts.
fn present_descendants() -> Result<()> {
    let scratch = loop_device()?;
    let script = format!("({WAC} --duration=1h & {WAC} --duration=1h & wait) & wait");
    let mut server = Shell::spawn(&script, scratch.path())?;
    wait_until(|| {
        let children = fs::read_dir(scratch.path())?.count();
        // `lost+found`, and a file of each workload.
        Ok((children < 3).then(|| format!("{children} entries")))
    })?;
    let mut agent = Agent::start(["--min-latency=0", "--pid", &server.0.id().to_string()])?;
    let workloads = await_processes(&mut agent, 2)?;
    let recording = agent.stop()?;
    for pid in &workloads {
        send_signal(*pid, Signal::TERM)?;
    }
    // The file system is in use until they have ended.
    server.0.wait()?;
    ensure!(recording.stalls().all(|stall| workloads.contains(&stall.pid)), "{workloads:?}");
    Ok(())
}

/// Agent and workload run in a PID namespace of their own.
fn pid_namespace() -> Result<()> {
    let stranger = Stranger::start()?;
    let scratch = loop_device()?;
    let output = scratch.path().join("stream");
    let script = format!(
        "{WAC} --duration=1h & \"$STABLE_TRACE\" --pid $! --min-latency=0 --listen=off \
         --duration=2s --format=json -o stream; code=$?; kill $!; wait; exit $code"
    );
    let before = stranger.waits.hits()?;
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc", "--kill-child", "/bin/sh", "-c", &script]);
    command.current_dir(scratch.path()).stdin(Stdio::null()).stdout(Stdio::null());
    with_program(&mut command);
    kill_with_parent(&mut command);
    let result = command.output().context("cannot run unshare")?;
    let errors = String::from_utf8_lossy(&result.stderr);
    ensure!(result.status.success(), "{}: {errors}", result.status);
    let text = fs::read_to_string(&output).context("the agent wrote no stream")?;
    let lines = text.lines().map(serde_json::from_str).collect::<Result<Vec<_>, _>>()?;
    let recording = Recording { lines, errors: errors.into_owned(), status: result.status };
    ensure!(recording.stalls().count() > 0, "no stall: {:#?}", recording.summary()?);
    stranger.is_left_out_of(&recording, before)
}

/// `run` with a command that does not wait, and with one that does.
fn run_excludes_strangers() -> Result<()> {
    let stranger = Stranger::start()?;
    let before = stranger.waits.hits()?;
    let recording = Agent::run(["run", "--min-latency=0", "--", "sleep", "2"])?;
    ensure!(recording.status.success(), "{}: {}", recording.status, recording.errors);
    stranger.is_left_out_of(&recording, before)?;
    let total = recording.summary()?.stalls_total;
    ensure!(total == 0, "sleep stalled {total} times");

    let before = stranger.waits.hits()?;
    let recording = run_in_shell(&format!("({WAC} --duration=2s >/dev/null); true"), &[])?;
    ensure!(recording.stalls().count() > 0, "no stall of the command's child");
    stranger.is_left_out_of(&recording, before)
}

/// Runs a script under `run`, in a file system of its own.
fn run_in_shell(script: &str, options: &[&str]) -> Result<Recording> {
    let scratch = loop_device()?;
    let program = Agent::program();
    let program = program.to_str().context("the path is not UTF-8")?;
    let folder = scratch.path().to_str().context("the path is not UTF-8")?;
    let script = format!("export STABLE_TRACE='{program}'; cd '{folder}' || exit; {script}");
    let arguments = ["run", "--min-latency=0"].into_iter().chain(options.iter().copied());
    let recording = Agent::run(arguments.chain(["--", "sh", "-c", &script]))?;
    ensure!(recording.status.success(), "{}: {}", recording.status, recording.errors);
    Ok(recording)
}

fn run_with_all() -> Result<()> {
    let _stranger = Stranger::start()?;
    let recording = Agent::run(["run", "-a", "--min-latency=0", "--", "sleep", "2"])?;
    ensure!(recording.status.success(), "{}: {}", recording.status, recording.errors);
    let pid = std::process::id();
    ensure!(recording.stalls().any(|stall| stall.pid == pid), "no stall of the stranger");
    ensure!(recording.summary()?.waits_filtered.is_none(), "{:#?}", recording.summary()?);
    Ok(())
}

/// The workload is in a session of its own, and its parent has exited.
fn run_includes_a_daemon() -> Result<()> {
    let stranger = Stranger::start()?;
    let before = stranger.waits.hits()?;
    let script = format!(
        "(setsid sh -c 'sleep 1; exec {WAC} --duration=2s' </dev/null >/dev/null 2>&1 &); sleep 5"
    );
    let recording = run_in_shell(&script, &[])?;
    ensure!(recording.stalls().count() > 0, "no stall of the daemon: {:#?}", recording.summary()?);
    stranger.is_left_out_of(&recording, before)
}

fn wac_excludes_strangers() -> Result<()> {
    let stranger = Stranger::start()?;
    let scratch = loop_device()?;
    let path = scratch.path().to_string_lossy().into_owned();
    let before = stranger.waits.hits()?;
    let recording = Agent::run(
        ["wac", "-q", "--min-latency=0", "--threads=2", "--duration=2s", "--path", &path].iter(),
    )?;
    ensure!(recording.status.success(), "{}: {}", recording.status, recording.errors);
    ensure!(recording.stalls().count() > 0, "no stall of the workload");
    stranger.is_left_out_of(&recording, before)
}

/// The workers have names of their own; the process has that of the program.
fn process_name() -> Result<()> {
    let scratch = loop_device()?;
    let mut wac = Wac::spawn_paused_with(2, scratch.path(), "a")?;
    wac.start()?;
    let comm = fs::read_to_string(format!("/proc/{}/comm", wac.pid()))?;
    let paused = StoppedProcesses::process(wac.pid())?;
    let mut agent = Agent::start(["--min-latency=0", "--comm", comm.trim_end()])?;
    drop(paused);
    agent.await_stalls(MANY)?;
    let recording = agent.stop()?;
    let worker = recording.stalls().any(|stall| stall.comm != comm.trim_end());
    ensure!(worker, "no stall of a thread with another name");
    Ok(())
}

/// The summary says what was left out, in numbers that agree with tracefs, and in a sentence.
fn nothing_matches() -> Result<()> {
    let scratch = loop_device()?;
    let mut wac = Wac::spawn_paused(scratch.path(), "a")?;
    let waits = TracefsInstance::recording_process(&host::wait_event(), wac.pid())?;
    let everything = TracefsInstance::recording(&host::wait_event(), "")?;
    let agent = Agent::start(["--min-latency=0", "--comm=no-such-name"])?;
    wac.start()?;
    waits.await_hits(MANY)?;
    wac.stop()?;
    let hits = waits.hits()?;
    let recording = agent.stop()?;
    let all = everything.hits()?;
    let summary = recording.summary()?;
    let filtered = summary.waits_filtered.clone().context("no filter is reported")?;
    ensure!(summary.stalls_total == 0 && recording.stalls().count() == 0, "{summary:#?}");
    ensure!(filtered.tasks >= hits && filtered.scope == "--comm no-such-name", "{filtered:?}");
    // Other tasks of the machine wait too, also while the agent attaches and detaches.
    ensure!(filtered.tasks <= all, "{filtered:?}, but tracefs has {all} waits of all tasks");

    let mut idle = Shell::spawn("read -r go", scratch.path())?;
    let pid = idle.0.id().to_string();
    let _stranger = Stranger::start()?;
    let output = Agent::output(["--pid", &pid, "--duration=2s", "--listen=off"])?;
    drop(idle.0.stdin.take());
    let text = String::from_utf8_lossy(&output.stdout);
    let sentence = format!("no stall matched --pid {pid} and its descendants: ");
    let left_out = text.lines().find_map(|line| line.trim_start().strip_prefix(&sentence));
    let left_out = left_out.with_context(|| format!("not said what was left out: {text}"))?;
    ensure!(left_out.ends_with(" waits of other processes were left out"), "{left_out}");
    idle.0.wait()?;
    Ok(())
}
