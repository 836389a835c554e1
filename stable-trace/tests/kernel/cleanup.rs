//! A killed agent or waiter leaves nothing in the kernel.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

use crate::harness::process::send_signal;
use crate::harness::{
    Agent, BpfObjects, Disk, Fs, Requirement, Scratch, SlowDisk, Test, Wac, bpftool, host,
    missed_runs, wait_until,
};

/// Waiters that the test waits for before it kills them. Most of the 64 threads wait for a lock
/// that a waiter holds.
const WAITERS: usize = 2;

pub(crate) fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for method in ["fentry", "kprobe", "tracepoint"] {
        tests.push(Test::guest(format!("a_killed_agent_leaves_nothing_{method}"), move || {
            a_killed_agent_leaves_nothing(method)
        }));
        tests.push(
            Test::guest(format!("killed_waiters_leave_nothing_{method}"), move || {
                killed_waiters_leave_nothing(method)
            })
            .requires(Requirement::PiDisk),
        );
    }
    tests.push(Test::guest("a_run_removes_its_kprobe_events", a_completed_run));
    let require = |test: Test| {
        test.requires_all([
            Requirement::Agent,
            Requirement::Tracefs,
            Requirement::Program("bpftool"),
        ])
    };
    tests.into_iter().map(require).collect()
}

fn read_tracefs(name: &str) -> Result<String> {
    let path = Path::new(host::TRACING).join(name);
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// The names of the functions that ftrace hooks.
fn hooked() -> Result<BTreeSet<String>> {
    let list = read_tracefs("enabled_functions")?;
    let names = list.lines().filter_map(|line| line.split_whitespace().next());
    Ok(names.map(str::to_owned).collect())
}

/// The kprobes that are defined through tracefs.
fn definitions() -> Result<BTreeSet<String>> {
    Ok(read_tracefs("kprobe_events")?.lines().map(str::to_owned).collect())
}

/// The objects of one agent in the kernel, from the kernel's lists.
struct KernelState {
    objects: BpfObjects,
    hooked: BTreeSet<String>,
    definitions: BTreeSet<String>,
}

impl KernelState {
    fn of(agent: &Agent) -> Result<Self> {
        let objects = BpfObjects::of_process(agent.pid())?;
        Ok(Self { objects, hooked: hooked()?, definitions: definitions()? })
    }
}

fn a_killed_agent_leaves_nothing(method: &str) -> Result<()> {
    let (hooked_before, defined_before) = (hooked()?, definitions()?);
    let agent = Agent::start(["--attach", method])?;
    let during = KernelState::of(&agent)?;
    let programs = bpftool::programs(&during.objects.programs)?;
    ensure!(programs.iter().any(|name| name.starts_with("writeback_wait")), "{programs:?}");
    let wait = host::wait_function();
    // Before 5.16 the kprobe method ends waits at a task switch.
    let returns = method == "kprobe" && host::kernel_version() >= (5, 16);
    if method == "fentry" || returns {
        ensure!(during.hooked.contains(wait), "{wait} is not hooked: {:?}", during.hooked);
    }
    let defined = during.definitions.difference(&defined_before).count();
    ensure!((defined > 0) == (method == "kprobe"), "defined: {:?}", during.definitions);

    agent.signal(Signal::KILL)?;
    let recording = agent.wait()?;

    ensure!(recording.status.code().is_none(), "{}", recording.status);
    wait_until(|| {
        let left = bpftool::programs(&during.objects.programs)?;
        Ok((!left.is_empty()).then(|| format!("still loaded: {left:?}")))
    })?;
    wait_until(|| {
        let hooked = hooked()?;
        let left: Vec<_> = hooked.difference(&hooked_before).collect();
        Ok((!left.is_empty()).then(|| format!("still hooked: {left:?}")))
    })?;
    during.objects.await_freed()?;

    // A definition without its event runs no program but stays listed. The next run removes it.
    let next = Agent::start(["--attach", "tracepoint"])?.stop()?;
    ensure!(next.status.success(), "{}: {}", next.status, next.errors);
    let after = definitions()?;
    let left: Vec<_> = after.difference(&defined_before).collect();
    ensure!(left.is_empty(), "definitions of the killed agent: {left:?}");
    Ok(())
}

fn a_completed_run() -> Result<()> {
    let (hooked_before, defined_before) = (hooked()?, definitions()?);
    let agent = Agent::start(["--attach", "kprobe"])?;
    ensure!(definitions()? != defined_before, "the agent defines no kprobe: nothing is tested");
    let recording = agent.stop()?;

    ensure!(recording.status.success(), "{}: {}", recording.status, recording.errors);
    ensure!(recording.errors.is_empty(), "{}", recording.errors);
    let after = definitions()?;
    ensure!(after == defined_before, "still defined: {after:?}");
    let hooked = hooked()?;
    ensure!(hooked == hooked_before, "still hooked: {hooked:?}");
    Ok(())
}

/// Kills threads that wait for a slow disk.
fn killed_waiters_leave_nothing(method: &str) -> Result<()> {
    let scratch = Scratch::new(Fs::Ext4, Disk::pi()?)?;
    let _slow = SlowDisk::new(scratch.disk(), Duration::from_millis(20), 1)?;
    let agent = Agent::start(["--attach", method, "--min-latency=0"])?;
    let objects = BpfObjects::of_process(agent.pid())?;
    for profile in ["a", "b"] {
        let mut wac = Wac::spawn_paused(scratch.path(), profile)?;
        wac.start()?;
        wait_until(|| {
            let waiting = bpftool::entries("WAITERS", &objects)?;
            Ok((waiting < WAITERS).then(|| format!("{waiting} threads wait")))
        })?;
        send_signal(wac.pid(), Signal::KILL)?;
        // Reaps the workload: none of its threads is left.
        drop(wac);
        bpftool::await_empty_task_maps(&objects)?;
    }
    let recording = agent.stop()?;

    let summary = recording.summary()?;
    ensure!(summary.stalls_total > 0, "no task stalled: {summary:#?}");
    ensure!(summary.waits_unfinished == 0, "{summary:#?}");
    println!("{method}: {:?} of {} stalls", summary.map_failures, summary.stalls_total);
    if method == "fentry" && host::preempts_programs() {
        // The returns of some tasks that are killed at once are missed.
        return missed_runs::explain_failures(summary);
    }
    ensure!(summary.map_failures.is_empty(), "{:?}", summary.map_failures);
    Ok(())
}
