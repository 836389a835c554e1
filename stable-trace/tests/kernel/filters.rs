//! `--pid`, `--comm`, `--cgroup` and `--device`: two workloads run side by side, and one is asked
//! for.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use stable_trace_analysis::event::{Event, Stall};

use crate::bed::{
    Agent, Cgroup, Disk, Fs, Need, Recording, Scratch, Test, TracefsInstance, Wac,
    every_wait_is_accounted_for, host,
};

/// Stalls that are awaited before the workloads are ended.
const MANY: u64 = 500;

pub fn tests() -> Vec<Test> {
    let both = |name: &str, story: fn() -> Result<()>| {
        Test::both(name, story)
            .needs(Need::Root)
            .needs(Need::Agent)
            .needs(Need::Tracefs)
            .needs(Need::Program("losetup"))
    };
    vec![
        both("only_the_process_that_was_asked_for", only_one_process),
        both("only_the_thread_name_that_was_asked_for", only_one_name),
        both("only_the_cgroup_that_was_asked_for", only_one_cgroup).needs(Need::Cgroup2),
        both("only_the_device_that_was_asked_for", only_one_device),
        both("only_the_btrfs_that_was_asked_for", only_one_btrfs),
    ]
}

/// Two workloads on file systems of their own, both at work for the whole run, and both watched by
/// tracefs.
struct Pair {
    ours: Side,
    others: Side,
}

struct Side {
    scratch: Scratch,
    wac: Wac,
    waits: TracefsInstance,
}

impl Side {
    fn new(fs: Fs, profile: &str) -> Result<Self> {
        let mib = if fs == Fs::Btrfs { 128 } else { 64 };
        let scratch = Scratch::with_stable_writes(fs, Disk::looped(mib)?, true)?;
        let wac = Wac::ready(scratch.path(), profile)?;
        let waits = TracefsInstance::recording_process(&host::wait_event(), wac.pid())?;
        Ok(Self { scratch, wac, waits })
    }

    fn name(&self) -> String {
        self.scratch.disk().name.clone()
    }
}

impl Pair {
    fn new(ours: Fs) -> Result<Self> {
        Ok(Self { ours: Side::new(ours, "a")?, others: Side::new(Fs::Ext4, "a")? })
    }

    /// Runs both under an agent with these options, until it has seen enough of one. Returns what it
    /// said, and how often tracefs saw ours wait.
    fn run(mut self, options: &[&str]) -> Result<(Recording, u64)> {
        let mut agent = Agent::start(["--min-latency=0"].iter().chain(options))?;
        self.others.wac.go()?;
        self.ours.wac.go()?;
        agent.await_stalls(MANY)?;
        // Or the test shows nothing.
        self.others.waits.await_hits(MANY).context("the others hardly wait")?;
        self.ours.wac.stop()?;
        self.others.wac.stop()?;
        Ok((agent.stop()?, self.ours.waits.hits()?))
    }
}

/// Lines and counts are of what was asked for, and of nothing else.
fn only(recording: &Recording, asked_for: impl Fn(&Stall) -> bool) -> Result<()> {
    let other = recording.stalls().find(|stall| !asked_for(stall));
    ensure!(other.is_none(), "nobody asked for {other:?}");
    let summary = recording.summary()?;
    let lines = recording.stalls().count() as u64;
    ensure!(lines > 0 && summary.records_malformed == 0, "{summary:#?}");
    ensure!(summary.stalls_total == lines + summary.events_lost, "{lines} lines: {summary:#?}");
    Ok(())
}

fn only_one_process() -> Result<()> {
    let pair = Pair::new(Fs::Ext4)?;
    let pid = pair.ours.wac.pid();
    let (recording, hits) = pair.run(&["--pid", &pid.to_string()])?;
    only(&recording, |stall| stall.pid == pid)?;
    every_wait_is_accounted_for(recording.summary()?, hits)
}

fn only_one_name() -> Result<()> {
    let pair = Pair::new(Fs::Ext4)?;
    let pids = [pair.ours.wac.pid(), pair.others.wac.pid()];
    // Both have a thread of that name, and one whose name begins with it.
    let mut agent = Agent::start(["--min-latency=0", "--comm=wac-write-1"])?;
    let Pair { ours: mut first, others: mut second } = pair;
    first.wac.go()?;
    second.wac.go()?;
    let seen = RefCell::new(BTreeSet::new());
    agent.await_line(Duration::from_mins(2), |event| {
        if let Event::Stall(stall) = event {
            seen.borrow_mut().insert(stall.pid);
        }
        pids.iter().all(|pid| seen.borrow().contains(pid))
    })?;
    let task = |pid: u32| thread_named(pid, "wac-write-1");
    let tids = [task(pids[0])?, task(pids[1])?];
    first.wac.stop()?;
    second.wac.stop()?;
    let recording = agent.stop()?;
    only(&recording, |stall| stall.comm == "wac-write-1" && tids.contains(&stall.tid))
}

/// The thread of that name, as /proc has it.
fn thread_named(pid: u32, name: &str) -> Result<u32> {
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let task = task?;
        let comm = std::fs::read_to_string(task.path().join("comm"))?;
        if comm.trim_end() == name {
            return Ok(task.file_name().to_string_lossy().parse()?);
        }
    }
    anyhow::bail!("process {pid} has no thread {name}")
}

/// The process is in a group below the one that was asked for.
fn only_one_cgroup() -> Result<()> {
    let parent = Cgroup::new()?;
    let child = parent.child("child")?;
    let grandchild = child.child("grandchild")?;
    let pair = Pair::new(Fs::Ext4)?;
    let pid = pair.ours.wac.pid();
    grandchild.take(pid)?;
    let path = child.path().to_str().context("a path that is no text")?.to_owned();

    let (recording, hits) = pair.run(&["--cgroup", &path])?;

    let id = grandchild.id()?;
    only(&recording, |stall| stall.pid == pid && stall.cgroup_id == id)?;
    every_wait_is_accounted_for(recording.summary()?, hits)
}

fn only_one_device() -> Result<()> {
    let pair = Pair::new(Fs::Ext4)?;
    let (ours, others) = (pair.ours.name(), pair.others.name());
    ensure!(ours != others, "both are on {ours}");
    let (recording, _) = pair.run(&["--device", &ours])?;
    only(&recording, |stall| stall.device.as_deref() == Some(&ours))?;
    counted_only(&recording, &ours)
}

/// A file system whose backing device has a name of its own, by its disk's number.
fn only_one_btrfs() -> Result<()> {
    let pair = Pair::new(Fs::Btrfs)?;
    let ours = pair.ours.name();
    let dev = pair.ours.scratch.disk().attribute("dev").context("the disk has no number")?;
    let (recording, _) = pair.run(&["--device", &dev])?;
    only(&recording, |stall| {
        stall.device.as_deref() == Some(&ours) && stall.fs.as_deref() == Some("btrfs")
    })?;
    counted_only(&recording, &ours)
}

fn counted_only(recording: &Recording, device: &str) -> Result<()> {
    let stalls = &recording.summary()?.stalls;
    let other = stalls.iter().find(|line| line.device.as_deref() != Some(device));
    ensure!(other.is_none() && !stalls.is_empty(), "nobody asked for {other:?}");
    Ok(())
}
