//! The metrics of a run on this machine's kernel: against tracefs, which counts the same waits, and
//! against the run's own summary.

use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use stable_trace_analysis::event::{Context, Event};

use crate::bed::{
    Agent, Disk, Fs, Held, Need, Recording, Scrape, Scratch, Test, TracefsInstance, Wac,
    eventually, every_wait_is_accounted_for, host,
};

/// Stalls that are awaited before the workload is ended.
const MANY: u64 = 3_000;

/// Waits while the agent stands still: several times what a ring of one page has room for.
const FLOOD: u64 = 500;

pub fn tests() -> Vec<Test> {
    let native = |name: &str, story: fn() -> Result<()>| {
        Test::native(name, story)
            .needs(Need::Root)
            .needs(Need::Agent)
            .needs(Need::Tracefs)
            .needs(Need::Program("losetup"))
            .needs(Need::Program("promtool"))
    };
    vec![
        native("metrics_equal_the_summary_and_tracefs", metrics_equal_the_summary_and_tracefs),
        native("metrics_are_exact_when_the_stream_drops", metrics_are_exact_when_the_stream_drops),
        native("metrics_of_the_workload_grow_with_it", metrics_of_the_workload_grow_with_it),
        native("a_taken_address_is_an_error_only_if_asked_for", a_taken_address),
        native("programs_are_timed_only_while_asked_for", programs_are_timed_only_while_asked_for),
    ]
}

const ANY_PORT: &str = "--listen=127.0.0.1:0";

/// A run around the workload: scrapes while it runs, one after it has ended, the run's own words, and
/// what tracefs counted.
struct Seen {
    during: Vec<Scrape>,
    after: Scrape,
    recording: Recording,
    hits: u64,
}

/// With `flooded`, the agent stands still for a time, so that a small ring overflows.
fn watch(options: &[&str], flooded: bool) -> Result<Seen> {
    let scratch = Scratch::with_stable_writes(Fs::Ext4, Disk::looped(64)?, true)?;
    let mut wac = Wac::ready(scratch.path(), "a")?;
    let pid = wac.pid();
    let oracle = TracefsInstance::recording_process(&host::wait_event(), pid)?;
    let pid = pid.to_string();
    let fixed = ["--min-latency=0", ANY_PORT, "--pid", &pid];
    let mut agent = Agent::start(fixed.iter().chain(options))?;
    let mut during = vec![Scrape::of(&agent)?];
    wac.go()?;
    if flooded {
        let _held = Held::process(agent.pid())?;
        oracle.await_hits(oracle.hits()? + FLOOD)?;
    }
    for part in 0..4 {
        agent.await_stalls(MANY / 4).with_context(|| format!("part {part}"))?;
        during.push(Scrape::of(&agent)?);
    }
    wac.stop()?;
    let hits = oracle.hits()?;
    let after = Scrape::of(&agent)?;
    Ok(Seen { during, after, recording: agent.stop()?, hits })
}

/// What holds whatever the stream drops.
fn exact(seen: &Seen) -> Result<()> {
    let Seen { during, after, recording, hits } = seen;
    let summary = recording.summary()?;
    ensure!(summary.waits_unfinished == 0, "nobody is left to wait: {summary:#?}");
    every_wait_is_accounted_for(summary, *hits)?;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let (total, lost) = (summary.stalls_total as f64, summary.events_lost as f64);
    let counted = after.sum("stable_trace_stall_seconds_count", &[]);
    ensure!(same(counted, total), "{counted} in the metrics, {total} in the summary");
    let counted = after.sum("stable_trace_events_lost_total", &[]);
    ensure!(same(counted, lost), "{counted} lost in the metrics, {lost} in the summary");

    for line in &summary.stalls {
        let labels = [
            ("context", line.context.name()),
            ("device", line.device.as_deref().unwrap_or("unknown")),
            ("fs", line.fs.as_deref().unwrap_or("unknown")),
        ];
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let (count, seconds) = (line.count as f64, line.total_ns as f64 / 1e9);
        let counted = after.sum("stable_trace_stall_seconds_count", &labels);
        ensure!(same(counted, count), "{labels:?}: {counted} in the metrics, {line:?}");
        let summed = after.sum("stable_trace_stall_seconds_sum", &labels);
        ensure!(near(summed, seconds), "{labels:?}: {summed} s in the metrics, {line:?}");
        let all = [labels[0], labels[1], labels[2], ("le", "+Inf")];
        let in_buckets = after.sum("stable_trace_stall_seconds_bucket", &all);
        ensure!(same(in_buckets, count), "{labels:?}: {in_buckets} in all buckets, {line:?}");
    }
    // Sixty-four threads, each with a name of its own: more than have series.
    for context in Context::ALL {
        let labels = [("context", context.name())];
        let by_name = after.sum("stable_trace_process_stall_seconds_total", &labels);
        let by_place = after.sum("stable_trace_stall_seconds_sum", &labels);
        ensure!(near(by_name, by_place), "{context:?}: {by_name} s by name, {by_place} by place");
    }
    let other = after.sum("stable_trace_process_stall_seconds_total", &[("comm", "other")]);
    ensure!(other > 0.0, "no name is in `other`: {}", after.page);

    for pair in during.iter().chain([after]).collect::<Vec<_>>().windows(2) {
        goes_on(pair[0], pair[1])?;
    }
    promtool(after)
}

/// No counter of the first scrape is gone or less in the second.
fn goes_on(first: &Scrape, second: &Scrape) -> Result<()> {
    let later: std::collections::BTreeMap<_, _> = second.all().collect();
    let counts = |name: &str| {
        let metric = name.split('{').next().unwrap_or_default();
        ["_total", "_bucket", "_sum", "_count"].iter().any(|end| metric.ends_with(end))
    };
    for (name, value) in first.all().filter(|(name, _)| counts(name)) {
        let now = later.get(name).with_context(|| format!("{name} is gone"))?;
        ensure!(*now >= value, "{name} went back from {value} to {now}");
    }
    Ok(())
}

fn promtool(scrape: &Scrape) -> Result<()> {
    use std::io::Write as _;
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().context("promtool takes nothing")?;
    stdin.write_all(scrape.page.as_bytes())?;
    drop(stdin);
    let output = child.wait_with_output()?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    ensure!(output.status.success() && said.trim().is_empty(), "promtool: {said}");
    Ok(())
}

fn same(one: f64, other: f64) -> bool {
    one.to_bits() == other.to_bits()
}

fn near(one: f64, other: f64) -> bool {
    (one - other).abs() <= 1e-6 * other.abs().max(1e-3)
}

fn metrics_equal_the_summary_and_tracefs() -> Result<()> {
    let seen = watch(&["--ring-size=64MiB"], false)?;
    exact(&seen)?;
    let summary = seen.recording.summary()?;
    ensure!(summary.events_lost == 0, "{} lost", summary.events_lost);
    let received = seen.after.sum("stable_trace_events_received_total", &[]);
    let lines = seen.recording.stalls().count();
    // Stalls that were in the ring when the last scrape came are received later.
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let lines = lines as f64;
    ensure!(received > 0.0 && received <= lines, "{received} received, {lines} streamed");
    let first = &seen.during[0];
    let known = [("context", "write_begin"), ("fs", "ext4")];
    ensure!(
        first.series("stable_trace_stall_seconds_count") >= 3
            && same(first.sum("stable_trace_stall_seconds_count", &known), 0.0),
        "the mounted file system has no series at 0: {}",
        first.page
    );
    for metric in ["stable_trace_map_entries", "stable_trace_map_capacity"] {
        for map in ["HISTOGRAMS", "STACKS", "PROCESS_STALLS", "EVENTS"] {
            let value = seen.after.sum(metric, &[("map", map)]);
            ensure!(value > 0.0 || map == "EVENTS", "{metric} of {map}: {value}");
        }
    }
    let capacity = seen.after.sum("stable_trace_map_capacity", &[("map", "EVENTS")]);
    ensure!(same(capacity, 67_108_864.0), "the ring has {capacity} bytes");
    Ok(())
}

fn metrics_are_exact_when_the_stream_drops() -> Result<()> {
    let seen = watch(&["--ring-size=4096"], true)?;
    exact(&seen)?;
    let lost = seen.recording.summary()?.events_lost;
    ensure!(lost > 0, "nothing was lost: the test shows nothing");
    Ok(())
}

fn metrics_of_the_workload_grow_with_it() -> Result<()> {
    let scratch = Scratch::with_stable_writes(Fs::Ext4, Disk::looped(64)?, true)?;
    let path = scratch.path().to_string_lossy().into_owned();
    let options = ["--profile=c", "--duration=1h", "--threads=4", ANY_PORT, "--path", &path];
    let mut agent = Agent::start(["wac", "-q"].iter().chain(&options))?;
    let by_mode = |scrape: &Scrape, metric: &str| {
        ["write", "mmap"].map(|mode| scrape.sum(metric, &[("profile", "c"), ("mode", mode)]))
    };
    let mut last = None;
    eventually(|| {
        let scrape = Scrape::of(&agent)?;
        let operations = by_mode(&scrape, "stable_trace_workload_operations_total");
        let bytes = by_mode(&scrape, "stable_trace_workload_bytes_total");
        last = Some((operations, bytes));
        let still = operations.iter().chain(&bytes).any(|value| *value <= 0.0);
        Ok(still.then(|| format!("{operations:?} operations, {bytes:?} bytes")))
    })?;
    let (operations, bytes) = last.context("no scrape")?;
    agent.signal(Signal::INT)?;
    agent.await_line(Duration::from_mins(1), |event| matches!(event, Event::Summary(_)))?;
    let recording = agent.wait()?;
    let workload = recording.summary()?.workload.clone().context("the summary has no workload")?;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let (all, all_bytes) = (workload.operations as f64, workload.bytes as f64);
    ensure!(operations.iter().sum::<f64>() <= all, "{operations:?} operations of {workload:?}");
    ensure!(bytes.iter().sum::<f64>() <= all_bytes, "{bytes:?} bytes of {workload:?}");
    let modes: u64 = workload.modes.values().map(|mode| mode.operations).sum();
    ensure!(modes == workload.operations, "{workload:?}");
    Ok(())
}

fn a_taken_address() -> Result<()> {
    let taken = TcpListener::bind("127.0.0.1:0").context("no port is free")?;
    let address = taken.local_addr()?;
    let output = Agent::output(["--duration=1s", &format!("--listen={address}")])?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1), "{}: {said}", output.status);
    ensure!(said.lines().count() == 1 && said.contains(&address.to_string()), "{said}");

    // An error: somebody else has it, which serves as well.
    let _default = TcpListener::bind("127.0.0.1:9748");
    let output = Agent::output(["--duration=100ms"])?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {said}", output.status);
    ensure!(said.contains("no metrics: another process listens on 127.0.0.1:9748"), "{said}");
    Ok(())
}

/// The switch is a file descriptor (`bpf_enable_runtime_stats`, kernel/bpf/syscall.c): whoever has it
/// open has asked, and with it closed the kernel times nothing for us.
fn programs_are_timed_only_while_asked_for() -> Result<()> {
    let asks = |agent: &Agent| -> Result<bool> {
        let folder = format!("/proc/{}/fd", agent.pid());
        let files = std::fs::read_dir(&folder).with_context(|| format!("cannot list {folder}"))?;
        let links = files.flatten().filter_map(|file| std::fs::read_link(file.path()).ok());
        Ok(links.into_iter().any(|link| link.to_string_lossy().contains("bpf-stats")))
    };
    let agent = Agent::start([ANY_PORT, "--no-program-statistics"])?;
    ensure!(!asks(&agent)?, "the kernel was asked to time programs");
    let scrape = Scrape::of(&agent)?;
    ensure!(scrape.series("stable_trace_program_runs_total") == 0, "{}", scrape.page);
    agent.stop()?;
    let agent = Agent::start([ANY_PORT])?;
    ensure!(asks(&agent)?, "the kernel was not asked to time programs");
    eventually(|| {
        let runs = Scrape::of(&agent)?.sum("stable_trace_program_runs_total", &[]);
        Ok((runs <= 0.0).then(|| "no program has run".to_owned()))
    })?;
    agent.stop()?;
    Ok(())
}
