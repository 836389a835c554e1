//! `--pid`, `--comm`, `--cgroup` and `--device`: two workloads run side by side, and the filter
//! selects one.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use stable_trace_analysis::event::{Event, Stall};

use crate::harness::{
    Agent, Cgroup, Disk, Fs, Recording, Requirement, Scratch, Test, TracefsInstance, Wac,
    every_wait_is_accounted_for, host, process,
};

/// Stalls that a test waits for before it stops the workloads.
const MANY: u64 = 500;

pub(crate) fn tests() -> Vec<Test> {
    let anywhere = |name: &str, body: fn() -> Result<()>| {
        Test::anywhere(name, body).requires_traced_loop_device()
    };
    vec![
        anywhere("pid_selects_one_process", one_process),
        anywhere("comm_selects_one_thread_name", one_thread_name),
        anywhere("cgroup_selects_its_descendants", one_cgroup).requires(Requirement::Cgroup2),
        anywhere("device_selects_one_device", one_device),
        anywhere("device_selects_one_btrfs", one_btrfs),
    ]
}

/// Two workloads on separate file systems. Both run for the whole test, and tracefs counts the
/// waits of each.
struct Pair {
    selected: Observed,
    other: Observed,
}

struct Observed {
    scratch: Scratch,
    wac: Wac,
    waits: TracefsInstance,
}

impl Observed {
    fn new(fs: Fs, profile: &str) -> Result<Self> {
        let mib = if fs == Fs::Btrfs { 128 } else { 64 };
        let scratch = Scratch::with_stable_writes(fs, Disk::loop_device(mib)?, true)?;
        let wac = Wac::spawn_paused(scratch.path(), profile)?;
        let waits = TracefsInstance::recording_process(&host::wait_event(), wac.pid())?;
        Ok(Self { scratch, wac, waits })
    }

    fn device(&self) -> String {
        self.scratch.disk().name.clone()
    }
}

impl Pair {
    fn new(selected: Fs) -> Result<Self> {
        Ok(Self { selected: Observed::new(selected, "a")?, other: Observed::new(Fs::Ext4, "a")? })
    }

    /// Runs both under an agent with these options until it has streamed enough stalls. Returns the
    /// recording and tracefs's count of the selected workload.
    fn run(mut self, options: &[&str]) -> Result<(Recording, u64)> {
        let mut agent = Agent::start(["--min-latency=0"].iter().chain(options))?;
        self.other.wac.start()?;
        self.selected.wac.start()?;
        agent.await_stalls(MANY)?;
        // Otherwise there is nothing to filter out.
        self.other.waits.await_hits(MANY).context("the other workload has too few waits")?;
        self.selected.wac.stop()?;
        self.other.wac.stop()?;
        Ok((agent.stop()?, self.selected.waits.hits()?))
    }
}

/// Lines and counts are of the selected stalls only.
fn only(recording: &Recording, is_selected: impl Fn(&Stall) -> bool) -> Result<()> {
    let other = recording.stalls().find(|stall| !is_selected(stall));
    ensure!(other.is_none(), "the filter does not select {other:?}");
    let summary = recording.summary()?;
    let lines = recording.stalls().count() as u64;
    ensure!(lines > 0 && summary.records_malformed == 0, "{summary:#?}");
    ensure!(summary.stalls_total == lines + summary.events_lost, "{lines} lines: {summary:#?}");
    Ok(())
}

fn one_process() -> Result<()> {
    let pair = Pair::new(Fs::Ext4)?;
    let pid = pair.selected.wac.pid();
    let (recording, hits) = pair.run(&["--pid", &pid.to_string()])?;
    only(&recording, |stall| stall.pid == pid)?;
    every_wait_is_accounted_for(recording.summary()?, hits)
}

fn one_thread_name() -> Result<()> {
    let pair = Pair::new(Fs::Ext4)?;
    let pids = [pair.selected.wac.pid(), pair.other.wac.pid()];
    // Both have a thread of that name and one whose name begins with it.
    let mut agent = Agent::start(["--min-latency=0", "--comm=wac-write-1"])?;
    let Pair { selected: mut first, other: mut second } = pair;
    first.wac.start()?;
    second.wac.start()?;
    let seen = RefCell::new(BTreeSet::new());
    agent.await_line(Duration::from_mins(2), |event| {
        if let Event::Stall(stall) = event {
            seen.borrow_mut().insert(stall.pid);
        }
        pids.iter().all(|pid| seen.borrow().contains(pid))
    })?;
    let tids = [thread_named(pids[0], "wac-write-1")?, thread_named(pids[1], "wac-write-1")?];
    first.wac.stop()?;
    second.wac.stop()?;
    let recording = agent.stop()?;
    only(&recording, |stall| stall.comm == "wac-write-1" && tids.contains(&stall.tid))
}

fn thread_named(pid: u32, name: &str) -> Result<u32> {
    for tid in process::threads(pid)? {
        let comm = std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/comm"))?;
        if comm.trim_end() == name {
            return Ok(tid);
        }
    }
    anyhow::bail!("process {pid} has no thread {name}")
}

/// The process is in a descendant of the selected cgroup, with the name of a container's.
fn one_cgroup() -> Result<()> {
    let parent = Cgroup::new()?;
    let child = parent.child("child")?;
    let container = "0123456789abcdef".repeat(4);
    let grandchild = child.child(&format!("docker-{container}.scope"))?;
    let pair = Pair::new(Fs::Ext4)?;
    let pid = pair.selected.wac.pid();
    grandchild.add_process(pid)?;
    let path = child.path().to_str().context("the path is not UTF-8")?.to_owned();

    let (recording, hits) = pair.run(&["--cgroup", &path])?;

    let id = grandchild.id()?;
    let root = Cgroup::root().context("no cgroup2 is mounted")?;
    let below = format!("/{}", grandchild.path().strip_prefix(root)?.display());
    only(&recording, |stall| {
        stall.pid == pid
            && stall.cgroup_id == Some(id)
            && stall.cgroup.as_deref() == Some(&below)
            && stall.container.as_deref() == Some(&container)
    })?;
    every_wait_is_accounted_for(recording.summary()?, hits)
}

fn one_device() -> Result<()> {
    let pair = Pair::new(Fs::Ext4)?;
    let (selected, other) = (pair.selected.device(), pair.other.device());
    ensure!(selected != other, "both are on {selected}");
    let (recording, _) = pair.run(&["--device", &selected])?;
    only(&recording, |stall| stall.device.as_deref() == Some(&selected))?;
    counted_only(&recording, &selected)
}

/// btrfs has an anonymous device; the filter names its disk by number.
fn one_btrfs() -> Result<()> {
    let pair = Pair::new(Fs::Btrfs)?;
    let selected = pair.selected.device();
    let dev = pair.selected.scratch.disk().dev()?;
    let (recording, _) = pair.run(&["--device", &dev])?;
    only(&recording, |stall| {
        stall.device.as_deref() == Some(&selected) && stall.fs.as_deref() == Some("btrfs")
    })?;
    counted_only(&recording, &selected)
}

fn counted_only(recording: &Recording, device: &str) -> Result<()> {
    let stalls = &recording.summary()?.stalls;
    let other = stalls.iter().find(|line| line.device.as_deref() != Some(device));
    ensure!(other.is_none() && !stalls.is_empty(), "the filter does not select {other:?}");
    Ok(())
}
