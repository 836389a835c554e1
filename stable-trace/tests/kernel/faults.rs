//! Faults of the machine while it is traced: the counts equal those of tracefs all the same.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};
use serde_json::json;

use crate::harness::{
    Agent, Disk, Fs, KernelFile, Recording, Requirement, Scratch, Test, TracefsInstance, Wac,
    accounted_waits, cgroup::Cgroup, every_wait_is_accounted_for, host,
};

/// Stalls that a test waits for before and after a fault.
const SOME: u64 = 300;

/// How far the clock is set forward, in s.
const HOUR: i64 = 3600;

pub(crate) fn tests() -> Vec<Test> {
    let tests = [
        Test::guest("a_cpu_goes_offline", a_cpu_goes_offline),
        Test::guest("the_clock_is_set", the_clock_is_set),
        Test::anywhere("the_device_goes_away", the_device_goes_away),
        Test::anywhere("two_agents_count_the_same", two_agents),
        Test::guest("few_open_files_are_enough", few_open_files)
            .requires(Requirement::Program("prlimit")),
        Test::anywhere("a_read_only_root_is_enough", read_only_root)
            .requires(Requirement::Program("unshare")),
        Test::guest("64_mib_of_memory_are_enough", little_memory).requires(Requirement::Cgroup2),
    ];
    tests.into_iter().map(Test::requires_traced_loop_device).collect()
}

/// Traces a workload from its start to its end with an agent that `start` starts with the given arguments. Something
/// happens in between.
fn counts_stay_exact(
    fault: &str,
    start: impl FnOnce(&[String]) -> Result<Agent>,
    happens: impl FnOnce(&mut Agent) -> Result<()>,
) -> Result<Recording> {
    let scratch = scratch()?;
    let mut wac = Wac::spawn_paused(scratch.path(), "a")?;
    let oracle = TracefsInstance::recording_process(&host::wait_event(), wac.pid())?;
    let mut agent = start(&arguments_for(&wac))?;
    wac.start()?;
    agent.await_stalls(SOME)?;
    happens(&mut agent)?;
    agent.await_stalls(SOME)?;
    wac.stop()?;
    let hits = oracle.hits()?;
    let recording = agent.stop()?;
    is_exact(fault, &recording, hits)?;
    Ok(recording)
}

fn scratch() -> Result<Scratch> {
    Scratch::with_stable_writes(Fs::Ext4, Disk::loop_device(64)?, true)
}

fn arguments_for(wac: &Wac) -> Vec<String> {
    ["trace", "--min-latency=0", "--pid", &wac.pid().to_string()].map(str::to_owned).into()
}

/// Starts the agent by another program, which takes it as its last arguments.
fn start_by(program: &str, options: &[&str], arguments: &[String]) -> Result<Agent> {
    let options = options.iter().map(|option| (*option).to_owned());
    let agent = [Agent::program().display().to_string()];
    Agent::start_program(Path::new(program), options.chain(agent).chain(arguments.to_vec()))
}

/// Prints a row of the table of `cargo xtask bench faults`.
fn is_exact(fault: &str, recording: &Recording, hits: u64) -> Result<()> {
    ensure!(recording.status.success(), "{}: {}", recording.status, recording.errors);
    let summary = recording.summary()?;
    ensure!(summary.map_failures.is_empty(), "{:?}", summary.map_failures);
    every_wait_is_accounted_for(summary, hits)?;
    let (major, minor) = host::kernel_version();
    let row = json!({
        "fault": fault,
        "kernel": format!("{major}.{minor}"),
        "waits": hits,
        "accounted": accounted_waits(summary),
        "skipped": summary.probe_runs_missed.values().sum::<u64>(),
        "lost": summary.events_lost,
    });
    println!("fault: {row}");
    Ok(())
}

fn a_cpu_goes_offline() -> Result<()> {
    counts_stay_exact(
        "a CPU goes offline",
        |arguments| Agent::start(arguments),
        |agent| {
            // Its tasks go on on the other CPU; then it is there again.
            let _offline = KernelFile::set("/sys/devices/system/cpu/cpu1/online", "0")?;
            agent.await_stalls(SOME)
        },
    )?;
    Ok(())
}

/// Latencies come from the monotonic clock. Times of lines follow the clock of the wall.
fn the_clock_is_set() -> Result<()> {
    let set = |forward: i64| -> Result<()> {
        let now = clock_gettime(ClockId::Realtime);
        let then = Timespec { tv_sec: now.tv_sec + forward, ..now };
        clock_settime(ClockId::Realtime, then).context("cannot set the clock")
    };
    let recording =
        counts_stay_exact("the clock is set", |arguments| Agent::start(arguments), |_| set(HOUR));
    set(-HOUR)?;
    let recording = recording?;
    let hour_ns = Duration::from_secs(HOUR.unsigned_abs()).as_nanos();
    let longest = recording.stalls().map(|stall| stall.duration_ns).max().unwrap_or_default();
    ensure!(u128::from(longest) < hour_ns / 2, "a stall of {longest} ns");
    let elapsed = recording.summary()?.elapsed_ns;
    ensure!(u128::from(elapsed) < hour_ns / 2, "a run of {elapsed} ns");
    Ok(())
}

/// What the agent knew of a device and its file system it says at the end as well.
fn the_device_goes_away() -> Result<()> {
    let scratch = scratch()?;
    let name = scratch.disk().name.clone();
    let mut wac = Wac::spawn_paused(scratch.path(), "a")?;
    let oracle = TracefsInstance::recording_process(&host::wait_event(), wac.pid())?;
    let mut agent = Agent::start(arguments_for(&wac))?;
    wac.start()?;
    agent.await_stalls(SOME)?;
    wac.stop()?;
    let hits = oracle.hits()?;
    drop(scratch);
    let recording = agent.stop()?;

    is_exact("the device goes away", &recording, hits)?;
    let rows = &recording.summary()?.stalls;
    ensure!(!rows.is_empty(), "no stalls in the summary");
    let other = rows.iter().find(|row| {
        row.device.as_deref() != Some(name.as_str()) || row.fs.as_deref() != Some("ext4")
    });
    ensure!(other.is_none(), "not of {name}: {other:?}");
    Ok(())
}

fn two_agents() -> Result<()> {
    let scratch = scratch()?;
    let mut wac = Wac::spawn_paused(scratch.path(), "a")?;
    let oracle = TracefsInstance::recording_process(&host::wait_event(), wac.pid())?;
    let arguments = arguments_for(&wac);
    let mut agents = [Agent::start(&arguments)?, Agent::start(&arguments)?];
    wac.start()?;
    for agent in &mut agents {
        agent.await_stalls(SOME)?;
    }
    wac.stop()?;
    let hits = oracle.hits()?;
    for agent in agents {
        is_exact("a second agent", &agent.stop()?, hits)?;
    }
    Ok(())
}

/// As root the agent raises its limit. A command of `run` has the limit that the agent was given.
fn few_open_files() -> Result<()> {
    counts_stay_exact(
        "64 open files",
        |arguments| start_by("prlimit", &["--nofile=64:64"], arguments),
        |_| Ok(()),
    )?;
    let output = Command::new("prlimit")
        .arg("--nofile=64:64")
        .arg(Agent::program())
        .args(["run", "--listen=off", "--", "sh", "-c", "ulimit -Hn >&2"])
        .output()
        .context("cannot start prlimit")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && errors.lines().any(|line| line == "64"), "{errors}");
    Ok(())
}

fn read_only_root() -> Result<()> {
    let script = "mount --make-rprivate / && mount -o remount,bind,ro / && exec \"$@\"";
    let options = ["--mount", "sh", "-c", script, "sh"];
    counts_stay_exact(
        "a read-only root",
        |arguments| start_by("unshare", &options, arguments),
        |_| Ok(()),
    )?;
    Ok(())
}

/// From 5.11 on the limit covers maps and programs, too.
fn little_memory() -> Result<()> {
    let cgroup = Cgroup::new()?;
    let control = Cgroup::root().context("no cgroup2 is mounted")?.join("cgroup.subtree_control");
    fs::write(&control, "+memory")
        .with_context(|| format!("cannot write {}", control.display()))?;
    let limit = |name: &str, value: &str| -> Result<PathBuf> {
        let path = cgroup.path().join(name);
        fs::write(&path, value).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    };
    limit("memory.max", "64M")?;
    let script = format!("echo $$ > {}/cgroup.procs && exec \"$@\"", cgroup.path().display());
    counts_stay_exact(
        "64 MiB of memory",
        |arguments| start_by("sh", &["-c", &script, "sh"], arguments),
        |_| Ok(()),
    )?;
    let events = fs::read_to_string(cgroup.path().join("memory.events"))?;
    ensure!(events.lines().any(|line| line == "oom_kill 0"), "{events}");
    Ok(())
}
