//! The metrics of a run equal tracefs's count of the same waits and the run's summary.

use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use stable_trace_analysis::event::{Context, Event};

use crate::harness::{
    Agent, Disk, Fs, Recording, Requirement, Scrape, Scratch, StoppedProcesses, Test,
    TracefsInstance, Wac, every_wait_is_accounted_for, host, wait_until,
};

/// Stalls that a test waits for before it stops the workload.
const MANY: u64 = 3_000;

/// Waits while the agent is stopped: several times the capacity of a ring of one page.
const OVERFLOW: u64 = 500;

pub(crate) fn tests() -> Vec<Test> {
    let native = |name: &str, body: fn() -> Result<()>| {
        Test::native(name, body)
            .requires_traced_loop_device()
            .requires(Requirement::Program("promtool"))
    };
    vec![
        native("equal_the_summary_and_tracefs", metrics_equal_the_summary_and_tracefs),
        native("are_exact_when_the_stream_drops", metrics_are_exact_when_the_stream_drops),
        native("workload_metrics_grow_with_the_workload", workload_metrics_grow),
        native("an_address_in_use_is_an_error_only_with_listen", address_in_use),
        native("bpf_statistics_are_enabled_only_on_request", bpf_statistics),
    ]
}

const ANY_PORT: &str = "--listen=127.0.0.1:0";

/// A run with scrapes while the workload runs, one scrape after its end, and tracefs's count.
struct Run {
    during: Vec<Scrape>,
    after: Scrape,
    recording: Recording,
    hits: u64,
}

/// With `overflow`, the agent is stopped for a time, so that a small ring overflows.
fn trace_workload(options: &[&str], overflow: bool) -> Result<Run> {
    let scratch = Scratch::with_stable_writes(Fs::Ext4, Disk::loop_device(64)?, true)?;
    let mut wac = Wac::spawn_paused(scratch.path(), "a")?;
    let pid = wac.pid();
    let oracle = TracefsInstance::recording_process(&host::wait_event(), pid)?;
    let pid = pid.to_string();
    let fixed = ["--min-latency=0", ANY_PORT, "--pid", &pid];
    let mut agent = Agent::start(fixed.iter().chain(options))?;
    let mut during = vec![Scrape::of(&agent)?];
    wac.start()?;
    if overflow {
        let _stopped = StoppedProcesses::process(agent.pid())?;
        oracle.await_hits(oracle.hits()? + OVERFLOW)?;
    }
    for part in 0..4 {
        agent.await_stalls(MANY / 4).with_context(|| format!("part {part}"))?;
        during.push(Scrape::of(&agent)?);
    }
    wac.stop()?;
    let hits = oracle.hits()?;
    let after = Scrape::of(&agent)?;
    Ok(Run { during, after, recording: agent.stop()?, hits })
}

/// The counts are exact, whether or not the stream drops events.
fn counts_are_exact(run: &Run) -> Result<()> {
    let Run { during, after, recording, hits } = run;
    let summary = recording.summary()?;
    ensure!(summary.waits_unfinished == 0, "no task is left that waits: {summary:#?}");
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
    // Sixty-four threads with different names are one process.
    for context in Context::ALL {
        let labels = [("context", context.name())];
        let by_name = after.sum("stable_trace_process_stall_seconds_total", &labels);
        let by_place = after.sum("stable_trace_stall_seconds_sum", &labels);
        ensure!(near(by_name, by_place), "{context:?}: {by_name} s by name, {by_place} by place");
    }
    let other = after.all().find(|(name, _)| name.contains(r#"comm="other""#));
    ensure!(other.is_none(), "a process is in `other`: {other:?}");

    for pair in during.iter().chain([after]).collect::<Vec<_>>().windows(2) {
        counters_do_not_decrease(pair[0], pair[1])?;
    }
    promtool(after)
}

/// No counter of the first scrape is missing or less in the second.
fn counters_do_not_decrease(first: &Scrape, second: &Scrape) -> Result<()> {
    let later: std::collections::BTreeMap<_, _> = second.all().collect();
    let counts = |name: &str| {
        let metric = name.split('{').next().unwrap_or_default();
        ["_total", "_bucket", "_sum", "_count"].iter().any(|end| metric.ends_with(end))
    };
    for (name, value) in first.all().filter(|(name, _)| counts(name)) {
        let now = later.get(name).with_context(|| format!("{name} is missing"))?;
        ensure!(*now >= value, "{name} decreased from {value} to {now}");
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
    let mut stdin = child.stdin.take().context("promtool has no standard input")?;
    stdin.write_all(scrape.page.as_bytes())?;
    drop(stdin);
    let output = child.wait_with_output()?;
    let messages = [output.stdout, output.stderr].concat();
    let messages = String::from_utf8_lossy(&messages);
    ensure!(output.status.success() && messages.trim().is_empty(), "promtool: {messages}");
    Ok(())
}

fn same(one: f64, other: f64) -> bool {
    one.to_bits() == other.to_bits()
}

fn near(one: f64, other: f64) -> bool {
    (one - other).abs() <= 1e-6 * other.abs().max(1e-3)
}

fn metrics_equal_the_summary_and_tracefs() -> Result<()> {
    let run = trace_workload(&["--ring-size=64MiB"], false)?;
    counts_are_exact(&run)?;
    let summary = run.recording.summary()?;
    ensure!(summary.events_lost == 0, "{} lost", summary.events_lost);
    let received = run.after.sum("stable_trace_events_received_total", &[]);
    let lines = run.recording.stalls().count();
    // Stalls in the ring at the last scrape are received later.
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let lines = lines as f64;
    ensure!(received > 0.0 && received <= lines, "{received} received, {lines} streamed");
    let first = &run.during[0];
    let known = [("context", "write_begin"), ("fs", "ext4")];
    ensure!(
        first.series("stable_trace_stall_seconds_count") >= 3
            && same(first.sum("stable_trace_stall_seconds_count", &known), 0.0),
        "the mounted file system has no series at 0: {}",
        first.page
    );
    for metric in ["stable_trace_map_entries", "stable_trace_map_capacity"] {
        for map in ["HISTOGRAMS", "STACKS", "PROCESS_STALLS", "EVENTS"] {
            let value = run.after.sum(metric, &[("map", map)]);
            ensure!(value > 0.0 || map == "EVENTS", "{metric} of {map}: {value}");
        }
    }
    let capacity = run.after.sum("stable_trace_map_capacity", &[("map", "EVENTS")]);
    ensure!(same(capacity, 67_108_864.0), "the ring has {capacity} bytes");
    Ok(())
}

fn metrics_are_exact_when_the_stream_drops() -> Result<()> {
    let run = trace_workload(&["--ring-size=4096"], true)?;
    counts_are_exact(&run)?;
    let lost = run.recording.summary()?.events_lost;
    ensure!(lost > 0, "the ring did not overflow");
    Ok(())
}

fn workload_metrics_grow() -> Result<()> {
    let scratch = Scratch::with_stable_writes(Fs::Ext4, Disk::loop_device(64)?, true)?;
    let path = scratch.path().to_string_lossy().into_owned();
    let options = ["--profile=c", "--duration=1h", "--threads=4", ANY_PORT, "--path", &path];
    let mut agent = Agent::start(["wac", "-q"].iter().chain(&options))?;
    let by_mode = |scrape: &Scrape, metric: &str| {
        ["write", "mmap"].map(|mode| scrape.sum(metric, &[("profile", "c"), ("mode", mode)]))
    };
    let mut last = None;
    wait_until(|| {
        let scrape = Scrape::of(&agent)?;
        let operations = by_mode(&scrape, "stable_trace_workload_operations_total");
        let bytes = by_mode(&scrape, "stable_trace_workload_bytes_total");
        last = Some((operations, bytes));
        let zero = operations.iter().chain(&bytes).any(|value| *value <= 0.0);
        Ok(zero.then(|| format!("{operations:?} operations, {bytes:?} bytes")))
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

fn address_in_use() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no port is free")?;
    let address = listener.local_addr()?;
    let output = Agent::output(["--duration=1s", &format!("--listen={address}")])?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1), "{}: {errors}", output.status);
    ensure!(errors.lines().count() == 1 && errors.contains(&address.to_string()), "{errors}");

    // If this fails, another process listens there, which serves the test as well.
    let _default = TcpListener::bind("127.0.0.1:9748");
    let output = Agent::output(["--duration=100ms"])?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {errors}", output.status);
    ensure!(errors.contains("no metrics: another process listens on 127.0.0.1:9748"), "{errors}");
    Ok(())
}

/// An open file descriptor enables the statistics (`bpf_enable_runtime_stats`,
/// kernel/bpf/syscall.c).
fn bpf_statistics() -> Result<()> {
    let enables = |agent: &Agent| -> Result<bool> {
        let folder = format!("/proc/{}/fd", agent.pid());
        let files = std::fs::read_dir(&folder).with_context(|| format!("cannot list {folder}"))?;
        let links = files.flatten().filter_map(|file| std::fs::read_link(file.path()).ok());
        Ok(links.into_iter().any(|link| link.to_string_lossy().contains("bpf-stats")))
    };
    let agent = Agent::start([ANY_PORT, "--no-program-statistics"])?;
    ensure!(!enables(&agent)?, "the agent enables BPF statistics");
    let scrape = Scrape::of(&agent)?;
    ensure!(scrape.series("stable_trace_program_runs_total") == 0, "{}", scrape.page);
    agent.stop()?;
    let agent = Agent::start([ANY_PORT])?;
    ensure!(enables(&agent)?, "the agent does not enable BPF statistics");
    wait_until(|| {
        let runs = Scrape::of(&agent)?.sum("stable_trace_program_runs_total", &[]);
        Ok((runs <= 0.0).then(|| "no program has run".to_owned()))
    })?;
    agent.stop()?;
    Ok(())
}
