//! What is left when an agent or a waiter is killed: nothing.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::harness::injection::SlowDisk;
use crate::harness::{Agent, Disk, Fs, BpfObjects, Requirement, Scratch, Test, Wac, bpftool, wait_until, host};

/// Waiters that are awaited before they are killed: most of the 64 wait for a lock that one of these
/// holds.
const WAITERS: usize = 2;

pub fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for method in ["fentry", "kprobe", "tracepoint"] {
        tests.push(Test::guest(format!("leftovers::agent_killed_{method}"), move || {
            a_killed_agent_leaves_nothing(method)
        }));
        tests.push(
            Test::guest(format!("leftovers::waiters_killed_{method}"), move || {
                killed_waiters_leave_nothing(method)
            })
            .requires(Requirement::PiDisk),
        );
    }
    tests.push(Test::guest("leftovers::kprobe_events_are_as_before", a_run_in_order));
    let needs =
        |test: Test| test.requires(Requirement::Agent).requires(Requirement::Tracefs).requires(Requirement::Program("bpftool"));
    tests.into_iter().map(needs).collect()
}

fn tracing(name: &str) -> Result<String> {
    let path = Path::new(host::TRACING).join(name);
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// Functions that somebody has hooked; how often, and by what, is left out.
fn hooked() -> Result<BTreeSet<String>> {
    let list = tracing("enabled_functions")?;
    let names = list.lines().filter_map(|line| line.split_whitespace().next());
    Ok(names.map(str::to_owned).collect())
}

/// Definitions of kprobes made through tracefs.
fn definitions() -> Result<BTreeSet<String>> {
    Ok(tracing("kprobe_events")?.lines().map(str::to_owned).collect())
}

/// What one agent has put into the kernel, by the kernel's own lists.
struct Traces {
    loaded: BpfObjects,
    hooked: BTreeSet<String>,
    definitions: BTreeSet<String>,
}

impl Traces {
    fn of(agent: &Agent) -> Result<Self> {
        let loaded = BpfObjects::of_process(agent.pid())?;
        Ok(Self { loaded, hooked: hooked()?, definitions: definitions()? })
    }
}

fn a_killed_agent_leaves_nothing(method: &str) -> Result<()> {
    let (hooked_before, defined_before) = (hooked()?, definitions()?);
    let agent = Agent::start(["--attach", method])?;
    let there = Traces::of(&agent)?;
    let programs = bpftool::programs(&there.loaded.programs)?;
    ensure!(programs.iter().any(|name| name.starts_with("writeback_wait")), "{programs:?}");
    let wait = host::wait_function();
    // Below 5.16 the method's waits end elsewhere.
    let returns = method == "kprobe" && host::kernel_version() >= (5, 16);
    if method == "fentry" || returns {
        ensure!(there.hooked.contains(wait), "{wait} is not hooked: {:?}", there.hooked);
    }
    let defined = there.definitions.difference(&defined_before).count();
    ensure!((defined > 0) == (method == "kprobe"), "defined: {:?}", there.definitions);

    agent.signal(Signal::KILL)?;
    let recording = agent.wait()?;

    ensure!(recording.status.code().is_none(), "{}", recording.status);
    wait_until(|| {
        let left = bpftool::programs(&there.loaded.programs)?;
        Ok((!left.is_empty()).then(|| format!("still loaded: {left:?}")))
    })?;
    wait_until(|| {
        let hooked = hooked()?;
        let left: Vec<_> = hooked.difference(&hooked_before).collect();
        Ok((!left.is_empty()).then(|| format!("still hooked: {left:?}")))
    })?;
    there.loaded.await_freed()?;

    // A definition without its event runs nothing, but it shows: the next run takes it away.
    let next = Agent::start(["--attach", "tracepoint"])?.stop()?;
    ensure!(next.status.success(), "{}: {}", next.status, next.errors);
    let after = definitions()?;
    let left: Vec<_> = after.difference(&defined_before).collect();
    ensure!(left.is_empty(), "of the killed one: {left:?}");
    Ok(())
}

fn a_run_in_order() -> Result<()> {
    let (hooked_before, defined_before) = (hooked()?, definitions()?);
    let agent = Agent::start(["--attach", "kprobe"])?;
    let there = definitions()?;
    ensure!(there != defined_before, "nothing was defined: the test shows nothing");
    let recording = agent.stop()?;

    ensure!(recording.status.success(), "{}: {}", recording.status, recording.errors);
    ensure!(recording.errors.is_empty(), "{}", recording.errors);
    let after = definitions()?;
    ensure!(after == defined_before, "still defined: {after:?}");
    let hooked = hooked()?;
    ensure!(hooked == hooked_before, "still hooked: {hooked:?}");
    Ok(())
}

/// Threads wait for a disk that takes its time, and die of it.
fn killed_waiters_leave_nothing(method: &str) -> Result<()> {
    let scratch = Scratch::new(Fs::Ext4, Disk::pi()?)?;
    let _slow = SlowDisk::new(scratch.disk(), Duration::from_millis(20), 1)?;
    let agent = Agent::start(["--attach", method, "--min-latency=0"])?;
    let held = BpfObjects::of_process(agent.pid())?;
    for profile in ["a", "b"] {
        let mut wac = Wac::spawn_paused(scratch.path(), profile)?;
        wac.start()?;
        wait_until(|| {
            let waiting = bpftool::entries("WAITERS", &held)?;
            Ok((waiting < WAITERS).then(|| format!("{waiting} threads wait")))
        })?;
        let pid = Pid::from_raw(wac.pid().cast_signed()).context("no pid")?;
        kill_process(pid, Signal::KILL).context("cannot kill the workload")?;
        // Reaps it: none of its threads is left after this.
        drop(wac);
        bpftool::await_no_task(&held)?;
    }
    let recording = agent.stop()?;

    let summary = recording.summary()?;
    ensure!(summary.stalls_total > 0, "nobody waited: {summary:#?}");
    ensure!(summary.waits_unfinished == 0, "{summary:#?}");
    ensure!(summary.map_failures.is_empty(), "{:?}", summary.map_failures);
    Ok(())
}
