//! A probe that cannot attach is reported with the same reason everywhere and does not affect the
//! other probes.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use stable_trace_analysis::event::{Context, Group, Method, Probe};

use crate::harness::{
    Agent, Disk, Fs, KernelFile, Requirement, Scratch, Test, TracefsInstance, Wac,
    every_wait_is_accounted_for, host, kprobes_on, program, wait_until,
};

/// Stalls that a test waits for to see that tracing works.
const SOME: u64 = 100;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::guest("a_module_loaded_later_is_probed", a_module_is_loaded).requires_all([
            Requirement::Agent,
            Requirement::Tracefs,
            Requirement::Program("modprobe"),
        ]),
        Test::anywhere("without_btf_only_tracepoints_attach", without_btf)
            .requires_traced_loop_device(),
        Test::guest("without_addresses_fentry_counts", without_addresses)
            .requires_traced_loop_device(),
    ]
}

/// The probe of the btrfs function, which is `btrfs_dirty_pages` up to 6.12 and `btrfs_dirty_folio`
/// in 7.x.
fn of_btrfs(probes: &[Probe]) -> Option<&Probe> {
    probes.iter().find(|probe| probe.function.starts_with("btrfs_dirty_"))
}

fn a_module_is_loaded() -> Result<()> {
    if Path::new("/sys/module/btrfs").exists() {
        program::run("modprobe", &["-r", "btrfs"])?;
    }
    let mut agent = Agent::start(["trace"])?;
    let probes = agent.started().context("no `start` line")?.probes.clone();
    let absent = of_btrfs(&probes).context("btrfs has no probe in the plan")?;
    let reason = absent.reason.as_deref().unwrap_or_default();
    ensure!(!absent.attached && reason.contains("module btrfs is not loaded"), "{absent:?}");
    let is_other = |probe: &&Probe| probe.attached && probe.group != absent.group;
    ensure!(probes.iter().any(|probe| is_other(&probe)), "no other probe attached: {probes:#?}");
    are_those_of_doctor(&probes, &probes_of_doctor()?)?;

    program::run("modprobe", &["btrfs"])?;
    wait_until(|| {
        let kprobes = kprobes_on("btrfs_dirty_pages")? + kprobes_on("btrfs_dirty_folio")?;
        Ok((kprobes == 0).then(|| "no kprobe on btrfs".to_owned()))
    })?;
    // Stalls on btrfs are seen.
    let scratch = Scratch::with_stable_writes(Fs::Btrfs, Disk::loop_device(320)?, true)?;
    let mut wac = Wac::spawn_paused(scratch.path(), "a")?;
    wac.start()?;
    agent.await_stalls(SOME)?;
    wac.stop()?;
    let recording = agent.stop()?;

    ensure!(recording.status.success(), "{}: {}", recording.status, recording.errors);
    let unnamed = recording.stalls().find(|stall| stall.function.starts_with("writeback:"));
    ensure!(unnamed.is_none(), "a function of the new module was not resolved: {unnamed:?}");
    let left = kprobes_on("btrfs_dirty_pages")? + kprobes_on("btrfs_dirty_folio")?;
    ensure!(left == 0, "{left} kprobes on btrfs are left");
    Ok(())
}

/// The probes that `doctor` reports.
fn probes_of_doctor() -> Result<Vec<Value>> {
    let output = Agent::output(["doctor", "--format", "json"])?;
    let mut report: Value =
        serde_json::from_slice(&output.stdout).context("doctor did not print JSON")?;
    serde_json::from_value(report["probes"].take()).context("doctor reports no probes")
}

/// Fails unless `doctor` reports the same probes, word for word.
fn are_those_of_doctor(probes: &[Probe], reported: &[Value]) -> Result<()> {
    let probes = probes.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>()?;
    ensure!(reported == probes, "{reported:#?} but {probes:#?}");
    Ok(())
}

/// With `kernel.kptr_restrict` at 2 nobody sees addresses.
fn without_addresses() -> Result<()> {
    let scratch = Scratch::with_stable_writes(Fs::Ext4, Disk::loop_device(64)?, true)?;
    let mut wac = Wac::spawn_paused(scratch.path(), "a")?;
    let pid = wac.pid();
    let oracle = TracefsInstance::recording_process(&host::wait_event(), pid)?;
    let _hidden = KernelFile::set("/proc/sys/kernel/kptr_restrict", "2")?;
    let mut agent = Agent::start(["--min-latency=0", "--pid", &pid.to_string()])?;
    let mut probes = agent.started().context("no `start` line")?.probes.clone();
    // Those that `--pid` needs.
    let of_processes = |function: &str| function.starts_with("sched:sched_process_");
    probes.retain(|probe| !of_processes(&probe.function));
    let mut reported = probes_of_doctor()?;
    if host::preempts_programs() {
        // One of them is also in a plan by returns, which can be missed here.
        reported.retain(|probe| !probe["function"].as_str().is_some_and(of_processes));
    }
    are_those_of_doctor(&probes, &reported)?;
    wac.start()?;
    agent.await_stalls(SOME)?;
    wac.stop()?;
    let hits = oracle.hits()?;
    let recording = agent.stop()?;

    ensure!(recording.errors.contains("shows no addresses"), "no warning: {}", recording.errors);
    every_wait_is_accounted_for(recording.summary()?, hits)?;
    let known = recording.stalls().find(|stall| stall.context != Context::Other);
    ensure!(known.is_none(), "a context without symbols: {known:?}");
    let waits = |probe: &&Probe| probe.attached && probe.group == Group::WritebackWait;
    let mut waits = probes.iter().filter(waits);
    ensure!(waits.any(|probe| probe.method == Method::Fentry), "no fentry: {probes:#?}");
    Ok(())
}

/// The BTF file is empty.
fn without_btf() -> Result<()> {
    let scratch = Scratch::with_stable_writes(Fs::Ext4, Disk::loop_device(64)?, true)?;
    let mut wac = Wac::spawn_paused(scratch.path(), "a")?;
    let pid = wac.pid().to_string();
    let mut agent = Agent::start(["--btf=/dev/null", "--min-latency=0", "--pid", &pid])?;
    wac.start()?;
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
    // Where waits attach by tracepoints anyway, only the other groups need BTF.
    let names_btf = |probe: &Probe| {
        let reason = probe.reason.as_deref().unwrap_or_default();
        !probe.attached && reason.contains("BTF")
    };
    ensure!(probes.iter().any(names_btf), "no reason names BTF: {probes:#?}");
    Ok(())
}
