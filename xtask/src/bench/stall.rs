//! Where the time of a stall goes: run time of the programs for each wait and for each switch of tasks, of the
//! agent, of empty programs on the same hooks, and of `bpftrace` scripts that keep similar counts.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::agent::{Agent, SAMPLE_INTERVAL, wac, with_program_statistics};
use super::numbers::Numbers;
use super::table::Table;
use crate::scratch::Scratch;
use crate::setup::debian;
use crate::{progress, shell};

/// What is attached to the wait tracepoint and to the switches of tasks.
#[derive(Clone, Copy)]
enum Tracer {
    Nothing,
    /// The agent, with these options.
    Agent(&'static [&'static str]),
    /// `bpftrace` with this script.
    Script(&'static str),
}

/// Programs that end before they do anything.
const EMPTY: &str = "tracepoint:writeback:folio_wait_writeback /cpu > 100000/ { @never = 1 } \
     tracepoint:sched:sched_switch /cpu > 100000/ { @never = 1 }";

/// A histogram of all waits.
const HISTOGRAM: &str = "tracepoint:writeback:folio_wait_writeback { @since[tid] = nsecs } \
     tracepoint:sched:sched_switch /@since[args->next_pid]/ { \
     @ns = hist(nsecs - @since[args->next_pid]); delete(@since[args->next_pid]) }";

/// A histogram for each device and kernel stack: the agent's key.
const HISTOGRAM_BY_STACK: &str = "tracepoint:writeback:folio_wait_writeback { @since[tid] = nsecs; \
     @stack[tid] = kstack(16); @device[tid] = args->name } \
     tracepoint:sched:sched_switch /@since[args->next_pid]/ { \
     @ns[@stack[args->next_pid], @device[args->next_pid]] = hist(nsecs - @since[args->next_pid]); \
     delete(@since[args->next_pid]) }";

/// Tracers; the first one is the baseline.
const TRACERS: [(&str, Tracer); 10] = [
    ("not traced", Tracer::Nothing),
    ("empty programs", Tracer::Script(EMPTY)),
    ("walks of 4 frames, counted", Tracer::Script(WALK_4)),
    ("walks of 8 frames, counted", Tracer::Script(WALK_8)),
    ("walks of 16 frames, counted", Tracer::Script(WALK_16)),
    ("bpftrace: a histogram", Tracer::Script(HISTOGRAM)),
    ("bpftrace: a histogram by stack and device", Tracer::Script(HISTOGRAM_BY_STACK)),
    ("stable-trace: counted", Tracer::Agent(&["--min-latency", "1h"])),
    ("stable-trace: stalls over 1 ms streamed", Tracer::Agent(&["--min-latency", "1ms"])),
    ("stable-trace: every stall streamed", Tracer::Agent(&["--min-latency", "0s"])),
];

const WALK_4: &str = "tracepoint:writeback:folio_wait_writeback { @[kstack(4)] = count() } \
     tracepoint:sched:sched_switch /cpu > 100000/ { @never = 1 }";
const WALK_8: &str = "tracepoint:writeback:folio_wait_writeback { @[kstack(8)] = count() } \
     tracepoint:sched:sched_switch /cpu > 100000/ { @never = 1 }";
const WALK_16: &str = "tracepoint:writeback:folio_wait_writeback { @[kstack(16)] = count() } \
     tracepoint:sched:sched_switch /cpu > 100000/ { @never = 1 }";

/// Replaces itself by `bpftrace`, with the script as its first argument.
const IN_NAMESPACE: &str =
    "mount -t tracefs tracefs /sys/kernel/tracing && exec bpftrace -e \"$0\"";

/// Duration of one run.
const RUN: Duration = Duration::from_secs(3);

/// Duration of the switches of tasks without a wait.
const SWITCHES: Duration = Duration::from_secs(1);

/// How long a tracer may take to attach.
const ATTACH: Duration = Duration::from_secs(30);

/// What one tracer cost in each round.
#[derive(Default)]
struct Measured {
    operations: Vec<f64>,
    ns_per_wait: Vec<f64>,
    ns_per_idle_switch: Vec<f64>,
}

pub(crate) fn bench(agent: &Path, rounds: u32) -> Result<()> {
    debian::ensure(&[("bpftrace", "bpftrace"), ("bpftool", "bpftool")])?;
    let scratch = Scratch::ext4()?;
    let measured = with_program_statistics(|| measure(agent, &scratch.mount_point(), rounds))?;
    println!(
        "\nwac a, 64 threads, 64 KiB, ext4 on a loop device with stable pages; {rounds} rounds of {} s; ns by the \
         kernel's statistics of BPF programs, two readings of the clock included\n",
        RUN.as_secs()
    );
    let mut table = Table::new([
        "",
        "of the untraced operations",
        "ns a wait, all programs",
        "ns a switch without a waiting task",
    ]);
    for ((name, _), tracer) in TRACERS.iter().zip(&measured) {
        let ratios =
            tracer.operations.iter().zip(&measured[0].operations).map(|(on, off)| on / off);
        let text = |values: &[f64]| match values {
            [] => "–".to_owned(),
            values => Numbers::new(values.iter().copied()).text(0),
        };
        table.row([
            (*name).to_owned(),
            Numbers::new(ratios).text(2),
            text(&tracer.ns_per_wait),
            text(&tracer.ns_per_idle_switch),
        ]);
    }
    println!("{table}");
    let untraced = Numbers::new(measured[0].operations.iter().copied());
    println!("Untraced: {} operations a second.\n", untraced.text(0));
    Ok(())
}

fn measure(agent: &Path, folder: &Path, rounds: u32) -> Result<Vec<Measured>> {
    let streams = tempfile::tempdir().context("cannot create a folder for the streams")?;
    let stream = streams.path().join("stream");
    wac(agent, folder, RUN / 3)?;
    let mut measured: Vec<_> = TRACERS.iter().map(|_| Measured::default()).collect();
    for round in 0..rounds {
        progress::step(format!("stall: round {} of {rounds}", round + 1));
        // The order rotates, so that a drift affects all tracers.
        for turn in 0..TRACERS.len() {
            let index = (turn + round as usize) % TRACERS.len();
            let (name, tracer) = TRACERS[index];
            one_run(tracer, agent, folder, &stream, &mut measured[index])
                .with_context(|| name.to_owned())?;
        }
    }
    Ok(measured)
}

fn one_run(
    tracer: Tracer,
    agent: &Path,
    folder: &Path,
    stream: &Path,
    measured: &mut Measured,
) -> Result<()> {
    match tracer {
        Tracer::Nothing => measured.operations.push(wac(agent, folder, RUN)?),
        Tracer::Agent(options) => {
            let options = [&["--format", "json"], options].concat();
            let tracing = Agent::to_file(agent, &options, stream)?;
            under(tracing.pid(), agent, folder, measured)?;
            tracing.stop()?;
        }
        Tracer::Script(script) => {
            let tracing = Script::start(script)?;
            under(tracing.0.id(), agent, folder, measured)?;
            tracing.stop()?;
        }
    }
    Ok(())
}

/// Measures the programs of a process: first without waits, then in the storm.
fn under(pid: u32, agent: &Path, folder: &Path, measured: &mut Measured) -> Result<()> {
    let idle = programs(pid)?;
    switch_tasks(SWITCHES)?;
    let switched = programs(pid)?;
    let operations = wac(agent, folder, RUN)?;
    let stormed = programs(pid)?;
    measured.operations.push(operations);
    // The program at the switches of tasks runs most.
    let spent = |from: &Programs, to: &Programs| -> Programs {
        let since = |id: &u32| from.get(id).copied().unwrap_or_default();
        to.iter()
            .map(|(id, run)| {
                (*id, Run { ns: run.ns - since(id).ns, runs: run.runs - since(id).runs })
            })
            .collect()
    };
    let most = |programs: &Programs| programs.values().copied().max_by_key(|run| run.runs);
    if let Some(run) = most(&spent(&idle, &switched)).filter(|run| run.runs > 1_000) {
        measured.ns_per_idle_switch.push(run.mean());
    }
    let storm = spent(&switched, &stormed);
    let waits = waits(&storm)?;
    if waits > 0 {
        let ns: u64 = storm.values().map(|run| run.ns).sum();
        measured.ns_per_wait.push(mean(ns, waits));
    }
    Ok(())
}

/// Run time and number of runs of a program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Run {
    ns: u64,
    runs: u64,
}

impl Run {
    fn mean(self) -> f64 {
        mean(self.ns, self.runs)
    }
}

#[allow(clippy::cast_precision_loss, reason = "a mean needs no more than 53 bits")]
fn mean(sum: u64, count: u64) -> f64 {
    sum as f64 / count as f64
}

/// Programs by their ID.
type Programs = BTreeMap<u32, Run>;

/// The programs that a process holds, by its descriptors.
fn programs(pid: u32) -> Result<Programs> {
    let mut programs = Programs::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        // A descriptor may be closed meanwhile.
        let Ok(text) = fs::read_to_string(entry?.path()) else { continue };
        if let Some((id, run)) = program(&text) {
            programs.insert(id, run);
        }
    }
    ensure!(!programs.is_empty(), "process {pid} holds no BPF program");
    Ok(programs)
}

/// The program of a descriptor by its `fdinfo` (`bpf_prog_show_fdinfo`, kernel/bpf/syscall.c).
fn program(text: &str) -> Option<(u32, Run)> {
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().parse::<u64>().ok()
    };
    let run = Run { ns: field("run_time_ns:")?, runs: field("run_cnt:")? };
    Some((u32::try_from(field("prog_id:")?).ok()?, run))
}

/// The waits that programs have seen: the runs of the one at the wait tracepoint.
fn waits(programs: &Programs) -> Result<u64> {
    let mut waits = 0;
    for (id, run) in programs {
        let mut list = Command::new("bpftool");
        list.args(["--json", "prog", "show", "id", &id.to_string()]);
        let shown: Value = serde_json::from_str(&shell::output(&mut list)?)?;
        let name = shown["name"].as_str().unwrap_or_default();
        // bpftrace names its programs after the tracepoint, the agent after the group.
        if name.contains("folio_wait") || name.contains("wait_begin") {
            waits = waits.max(run.runs);
        }
    }
    Ok(waits)
}

/// Two threads that wake each other: every turn is a switch of tasks, and no task waits for writeback.
fn switch_tasks(duration: Duration) -> Result<()> {
    let (mut to_other, mut from_main) = {
        let (reader, writer) = std::io::pipe()?;
        (writer, reader)
    };
    let (mut to_main, mut from_other) = {
        let (reader, writer) = std::io::pipe()?;
        (writer, reader)
    };
    let other = thread::spawn(move || {
        let mut byte = [0];
        while from_main.read_exact(&mut byte).is_ok() && to_main.write_all(&byte).is_ok() {}
    });
    let end = Instant::now() + duration;
    let mut byte = [0];
    while Instant::now() < end {
        to_other.write_all(&byte)?;
        from_other.read_exact(&mut byte)?;
    }
    drop(to_other);
    // It ends when the pipe is closed, and cannot panic.
    let _ = other.join();
    Ok(())
}

/// A running `bpftrace`, which is killed on drop.
struct Script(Child);

impl Script {
    /// Starts a script; returns when its probes are attached, which shows in the runs at switches of tasks.
    fn start(script: &str) -> Result<Self> {
        // In a mount namespace of its own, where tracefs is mounted at its usual place.
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", IN_NAMESPACE, script]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let child =
            command.spawn().context("cannot start bpftrace (`cargo xtask setup` installs it)")?;
        let mut script = Self(child);
        let deadline = Instant::now() + ATTACH;
        loop {
            let status = script.0.try_wait().context("cannot wait for bpftrace")?;
            ensure!(status.is_none(), "bpftrace ended: it may lack permission, or a probe");
            let runs = programs(script.0.id()).unwrap_or_default();
            if runs.values().any(|run| run.runs > 0) {
                return Ok(script);
            }
            ensure!(Instant::now() < deadline, "bpftrace did not attach its probes");
            thread::sleep(SAMPLE_INTERVAL);
        }
    }

    fn stop(mut self) -> Result<()> {
        kill_process(Pid::from_child(&self.0), Signal::INT).context("cannot stop bpftrace")?;
        let deadline = Instant::now() + ATTACH;
        while self.0.try_wait().context("cannot wait for bpftrace")?.is_none() {
            // It is killed on drop.
            ensure!(Instant::now() < deadline, "bpftrace does not end");
            thread::sleep(SAMPLE_INTERVAL);
        }
        Ok(())
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_read_from_its_descriptor() {
        let text = "pos:\t0\nprog_type:\t17\nprog_id:\t42\nrun_time_ns:\t9000\nrun_cnt:\t3\n";
        let (id, run) = program(text).unwrap();
        assert_eq!((id, run), (42, Run { ns: 9_000, runs: 3 }));
        assert!((run.mean() - 3_000.0).abs() < 1e-9);
        assert_eq!(program("map_type:\t1\nmap_id:\t7\n"), None);
    }
}
