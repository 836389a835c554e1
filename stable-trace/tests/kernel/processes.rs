//! Names of waiters: process and thread, the labels of metrics, cgroups.

use std::os::unix::fs::symlink;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use stable_trace_analysis::event::Event;

use crate::harness::{
    Agent, Cgroup, Disk, Fs, Requirement, Scrape, Scratch, Test, Wac, program, wait_until,
};

/// Stalls that a test waits for before it stops the workload.
const MANY: u64 = 1_000;

/// How long a test waits for a stall.
const LIMIT: Duration = Duration::from_mins(2);

/// The metric with a series for each process name.
const BY_PROCESS: &str = "stable_trace_process_stall_seconds_total";

pub(crate) fn tests() -> Vec<Test> {
    let anywhere = |name: &str, body: fn() -> Result<()>| {
        Test::anywhere(name, body).requires_traced_loop_device()
    };
    vec![
        anywhere("a_thread_pool_leaves_room_for_another_process", thread_pool),
        anywhere("an_event_names_process_and_thread", process_and_thread),
        anywhere("cgroups_have_series_on_request", cgroup_label).requires(Requirement::Cgroup2),
    ]
}

fn scratch() -> Result<Scratch> {
    Scratch::with_stable_writes(Fs::Ext4, Disk::loop_device(64)?, true)
}

/// Sixty-four threads with names of their own, then a process with another name.
fn thread_pool() -> Result<()> {
    let scratch = scratch()?;
    let device = &scratch.disk().name;
    let mut agent = Agent::start(["--min-latency=0", "--listen=127.0.0.1:0", "--device", device])?;
    let mut wac = Wac::spawn_paused(scratch.path(), "a")?;
    wac.start()?;
    agent.await_stalls(MANY)?;
    wac.stop()?;
    let pool = Scrape::of(&agent)?;

    // A program's name is that of the link by which it is run.
    let folder = tempfile::tempdir()?;
    let writer = folder.path().join("dbwriter");
    symlink("/usr/bin/dd", &writer)?;
    let writer = writer.to_string_lossy().into_owned();
    let output = format!("of={}", scratch.path().join("file").display());
    let words = ["if=/dev/zero", &output, "bs=1M", "count=16", "conv=fsync", "status=none"];
    wait_until(|| {
        program::run(&writer, &words)?;
        let scrape = Scrape::of(&agent)?;
        let own = scrape.sum(BY_PROCESS, &[("comm", "dbwriter")]);
        Ok((own <= 0.0).then(|| format!("no series for dbwriter: {}", scrape.page)))
    })?;
    agent.stop()?;

    let threads: Vec<_> = pool.all().filter(|(name, _)| name.contains("wac-write")).collect();
    ensure!(threads.is_empty(), "threads have series: {threads:?}");
    let all = pool.sum(BY_PROCESS, &[]);
    let process = pool.sum(BY_PROCESS, &[("comm", "wac")]);
    ensure!(process > 0.9 * all, "wac has {process} s of {all} s: {}", pool.page);
    Ok(())
}

fn process_and_thread() -> Result<()> {
    let scratch = scratch()?;
    let mut wac = Wac::spawn_paused(scratch.path(), "c")?;
    let pid = wac.pid();
    let mut agent = Agent::start(["--min-latency=0", "--pid", &pid.to_string()])?;
    wac.start()?;
    agent.await_stalls(MANY)?;
    wac.stop()?;
    let recording = agent.stop()?;
    for stall in recording.stalls().filter(|stall| stall.tid != pid) {
        ensure!(
            stall.comm.starts_with("wac-") && stall.process.as_deref() == Some("wac"),
            "{stall:?}"
        );
    }
    Ok(())
}

/// Two processes of the same name, each in a cgroup of its own.
fn cgroup_label() -> Result<()> {
    let scratch = scratch()?;
    let parent = Cgroup::new()?;
    let cgroups = [parent.child("a")?, parent.child("b")?];
    let mut agent = Agent::start(["--min-latency=0", "--listen=127.0.0.1:0", "--label=cgroup"])?;
    for cgroup in &cgroups {
        let mut wac = Wac::spawn_paused_with(16, scratch.path(), "a")?;
        let pid = wac.pid();
        cgroup.add_process(pid)?;
        wac.start()?;
        // Not just any stall: the stream may still have those of the other process.
        agent
            .await_line(LIMIT, |event| matches!(event, Event::Stall(stall) if stall.pid == pid))?;
        wac.stop()?;
    }
    let scrape = Scrape::of(&agent)?;
    agent.stop()?;
    let root = Cgroup::root().context("no cgroup2 is mounted")?;
    for cgroup in &cgroups {
        let path = format!("/{}", cgroup.path().strip_prefix(&root)?.display());
        let own = scrape.sum(BY_PROCESS, &[("comm", "wac"), ("cgroup", &path)]);
        ensure!(own > 0.0, "no series for {path}: {}", scrape.page);
    }
    let all = scrape.sum(BY_PROCESS, &[]);
    let by_place = scrape.sum("stable_trace_stall_seconds_sum", &[]);
    let difference = (all - by_place).abs();
    ensure!(difference < by_place * 1e-6, "{all} s by process, {by_place} s by place");
    Ok(())
}
