//! What cannot be probed is said, in the same words everywhere, and costs nothing else.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use stable_trace_analysis::event::{Group, Method, Probe};

use crate::bed::{Agent, Disk, Fs, Need, Scratch, Test, Wac, eventually, kprobes_on, program};

/// Stalls that are awaited to see that tracing works.
const SOME: u64 = 100;

pub fn tests() -> Vec<Test> {
    vec![
        Test::guest("gaps::a_module_gets_its_probes_when_it_comes", a_module_comes)
            .needs(Need::Agent)
            .needs(Need::Tracefs)
            .needs(Need::Program("modprobe")),
        Test::both("gaps::without_types_there_are_tracepoints", without_types)
            .needs(Need::Root)
            .needs(Need::Agent)
            .needs(Need::Tracefs)
            .needs(Need::Program("losetup")),
    ]
}

/// The probe of a function of btrfs: 5.10 to 6.12, and 7.x.
fn of_btrfs(probes: &[Probe]) -> Option<&Probe> {
    probes.iter().find(|probe| probe.function.starts_with("btrfs_dirty_"))
}

fn a_module_comes() -> Result<()> {
    if Path::new("/sys/module/btrfs").exists() {
        program::run("modprobe", &["-r", "btrfs"])?;
    }
    let mut agent = Agent::start(["trace"])?;
    let probes = agent.started().context("no start")?.probes.clone();
    let absent = of_btrfs(&probes).context("btrfs has no probe in the plan")?;
    let reason = absent.reason.as_deref().unwrap_or_default();
    ensure!(!absent.attached && reason.contains("module btrfs is not loaded"), "{absent:?}");
    let others = |probe: &&Probe| probe.attached && probe.group != absent.group;
    ensure!(probes.iter().any(|probe| others(&probe)), "it took others with it: {probes:#?}");
    doctor_says(&probes)?;

    program::run("modprobe", &["btrfs"])?;
    eventually(|| {
        let there = kprobes_on("btrfs_dirty_pages")? + kprobes_on("btrfs_dirty_folio")?;
        Ok((there == 0).then(|| "no kprobe on btrfs".to_owned()))
    })?;
    // As before: who waits there is seen.
    let scratch = Scratch::with_stable_writes(Fs::Btrfs, Disk::looped(320)?, true)?;
    let mut wac = Wac::ready(scratch.path(), "a")?;
    wac.go()?;
    agent.await_stalls(SOME)?;
    wac.stop()?;
    let recording = agent.stop()?;

    ensure!(recording.status.success(), "{}: {}", recording.status, recording.errors);
    let unnamed = recording.stalls().find(|stall| stall.function.starts_with("writeback:"));
    ensure!(unnamed.is_none(), "functions of the new module have no names: {unnamed:?}");
    let left = kprobes_on("btrfs_dirty_pages")? + kprobes_on("btrfs_dirty_folio")?;
    ensure!(left == 0, "{left} kprobes on btrfs are left");
    Ok(())
}

/// Word for word.
fn doctor_says(probes: &[Probe]) -> Result<()> {
    let output = Agent::output(["doctor", "--format", "json"])?;
    let report: Value = serde_json::from_slice(&output.stdout).context("doctor prints no JSON")?;
    let ours = serde_json::to_value(probes)?;
    ensure!(report["probes"] == ours, "{:#} but {ours:#}", report["probes"]);
    Ok(())
}

/// A file that holds no types of this kernel's, or of any.
fn without_types() -> Result<()> {
    let scratch = Scratch::with_stable_writes(Fs::Ext4, Disk::looped(64)?, true)?;
    let mut wac = Wac::ready(scratch.path(), "a")?;
    let pid = wac.pid().to_string();
    let mut agent = Agent::start(["--btf=/dev/null", "--min-latency=0", "--pid", &pid])?;
    wac.go()?;
    agent.await_stalls(SOME)?;
    wac.stop()?;
    let recording = agent.stop()?;

    let probes = &recording.start()?.probes;
    let attached: Vec<_> = probes.iter().filter(|probe| probe.attached).collect();
    let waits =
        |probe: &&&Probe| probe.group == Group::WritebackWait && probe.method == Method::Tracepoint;
    ensure!(
        attached.len() == 2 && attached.iter().filter(waits).count() == 2,
        "not the two tracepoints alone: {probes:#?}"
    );
    let silent = probes.iter().find(|probe| !probe.attached && probe.reason.is_none());
    ensure!(silent.is_none(), "no reason: {silent:?}");
    // Where waits are seen by tracepoints anyway, it is the other groups that miss the types.
    let told = |probe: &Probe| {
        let reason = probe.reason.as_deref().unwrap_or_default();
        !probe.attached && reason.contains("BTF")
    };
    ensure!(probes.iter().any(told), "nobody says what is missing: {probes:#?}");
    Ok(())
}
