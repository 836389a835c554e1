//! On a system with every fault that a panel shows no expression is empty, and Prometheus has the
//! counts of tracefs.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use stable_trace_analysis::event::Operation;
use stable_trace_dashboards::expressions::Durations;

use super::alerts::{Alert, Expected, alerts_are_as_expected};
use super::queries::{Queries, System, panel_value};
use crate::harness::console::QuietConsole;
use crate::harness::integrity_failures::completed;
use crate::harness::prometheus_server::free_address;
use crate::harness::{
    Agent, CorruptBlocks, Disk, Fs, PrometheusServer, Requirement, Scratch, SlowDisk,
    StoppedProcesses, Test, TracefsInstance, Wac, wait_until, wait_until_within,
};

/// Seconds between scrapes. Scrapes each second would fully load an emulated machine.
const INTERVAL: u32 = 4;
const TIMES: Durations = Durations { rate_interval: 20, range: 40 };

/// Delay of each command of the disk: it limits the load of the workloads.
const COMMAND: Duration = Duration::from_millis(20);

/// Seconds; longer than the test takes.
const WHOLE_TEST: u64 = 600;

/// Every kind of error has occurred within this time.
const TIMEOUT: Duration = Duration::from_mins(2);

/// An address that no process listens on (`tcpmux`): an agent that is down.
const DOWN: &str = "127.0.0.1:1";

pub(crate) fn test() -> Test {
    Test::guest("every_expression_has_data_when_checks_fail", when_checks_fail)
        .requires_traced_pi_disk()
        .requires(Requirement::NvmePi)
        .requires(Requirement::Program("prometheus"))
        // One kernel suffices to test Prometheus.
        .requires(Requirement::KernelFrom(6, 1))
        .requires(Requirement::UnstablePages)
}

fn when_checks_fail() -> Result<()> {
    let _quiet = QuietConsole::new()?;
    let (complete, degraded) = (free_address()?, free_address()?);
    // Started before the load.
    let prometheus = PrometheusServer::of(&[&complete, &degraded, DOWN], INTERVAL)?;
    let unstable = Scratch::with_stable_writes(Fs::Ext4, Disk::pi()?, false)?;
    let _slow = SlowDisk::new(unstable.disk(), COMMAND, 4)?;
    let stable = Scratch::new(Fs::Ext4, Disk::nvme_pi()?)?;
    let corrupt = CorruptBlocks::create()?;
    let [cached, direct] = ["cached", "direct"].map(|name| unstable.path().join(name));
    fs::create_dir(&cached)?;
    fs::create_dir(&direct)?;
    let failed = TracefsInstance::recording_integrity_completions()?;

    // This agent probes no writer, and its ring overflows.
    let limited = ["-q", "--attach=tracepoint", "--min-latency=0", "--ring-size=4096"];
    let _degraded = Agent::start(limited.iter().chain(&["--listen", degraded.as_str()]))?;
    // A direct-I/O buffer that is rewritten in flight. Few threads, here and below, leave CPU time
    // for the scrapes.
    let wac =
        ["wac", "--all", "-q", "--profile=g", "--threads=2", "--duration=1h", "--ring-size=64MiB"];
    let paths = ["--listen", &complete, "--path", &direct.to_string_lossy()];
    let agent = Agent::start(wac.iter().chain(&paths))?;
    // Writes and stores to pages that are not stable; and writers that wait for stable pages on the
    // disk with corrupt blocks.
    let mut workloads =
        [Wac::spawn_paused_with(8, &cached, "c")?, Wac::spawn_paused_with(4, stable.path(), "a")?];
    for workload in &mut workloads {
        workload.start()?;
    }
    wait_until_within(TIMEOUT, Duration::from_secs(1), || {
        let constant = constant_series(&prometheus, &complete, &degraded)?;
        if constant.is_some() {
            corrupt.read()?;
        }
        Ok(constant.map(|series| format!("{series} does not grow")))
    })?;
    let queries = Queries::now(prometheus.api(), System::Failing, TIMES)?;
    for workload in workloads {
        workload.stop()?;
    }
    let stopped = StoppedProcesses::children_of(agent.pid())?;

    let disks = [unstable.disk(), stable.disk()];
    let agents = [complete.as_str(), degraded.as_str()];
    wait_until(|| difference(&prometheus, agents, &failed, disks))?;
    queries.all_have_answers()?;
    alerts_are_as_expected(prometheus.api(), &expected(&complete, &degraded, disks))?;
    drop(stopped);
    corrupt.repair()
}

/// Names a series that does not grow yet in Prometheus.
fn constant_series(
    prometheus: &PrometheusServer,
    complete: &str,
    degraded: &str,
) -> Result<Option<String>> {
    let wanted = [
        (degraded, "events_lost_total{job!=\"\""),
        (complete, "verdicts_total{cause=\"page_rewritten_in_flight\""),
        (complete, "verdicts_total{cause=\"direct_io_buffer\""),
        (complete, "verdicts_total{cause=\"no_rewrite_seen\""),
        (complete, "unstable_writes_total{grade=\"hole\", context=\"write_begin\""),
        (complete, "unstable_writes_total{grade=\"hole\", context=\"page_mkwrite\""),
        (complete, "stall_seconds_count{context=\"write_begin\""),
        (complete, "workload_errors_total{errno=\"EILSEQ\""),
    ];
    for (instance, series) in wanted {
        let series = format!("stable_trace_{series}, instance=\"{instance}\"}}");
        let grown = format!("sum(increase({series}[{}s]))", TIMES.rate_interval);
        if prometheus.number(&grown)? <= 0.0 {
            return Ok(Some(series));
        }
    }
    Ok(None)
}

/// Describes a difference between the error counts of Prometheus and tracefs: by agent, disk and
/// operation, and in the panels, which sum over all agents.
fn difference(
    prometheus: &PrometheusServer,
    agents: [&str; 2],
    failed: &TracefsInstance,
    disks: [&Disk; 2],
) -> Result<Option<String>> {
    let mut agreed = Vec::new();
    for (op, panel) in [(Operation::Read, "Failed reads"), (Operation::Write, "Failed writes")] {
        let mut total = 0.0;
        for disk in disks {
            let failures = completed(failed, disk)?;
            let failures = failures.iter().filter(|failure| failure.op == op).count();
            let expected = f64::from(u32::try_from(failures)?);
            for agent in agents {
                let labels = format!("device=\"{}\", op=\"{}\"", disk.name, op.name());
                let series = "stable_trace_integrity_errors_total";
                let expression = format!("sum({series}{{instance=\"{agent}\", {labels}}})");
                let counted = prometheus.number(&expression)?;
                if counted.to_bits() != expected.to_bits() {
                    return Ok(Some(format!("{expression} is {counted}, tracefs has {expected}")));
                }
                total += expected;
            }
        }
        // Prometheus extrapolates to the end of the range, by one scrape at most.
        let shown = panel_value(prometheus.api(), panel, WHOLE_TEST)?;
        if shown < total || shown > total * 1.25 {
            return Ok(Some(format!("{panel} shows {shown}, tracefs has {total} over all agents")));
        }
        ensure!(total > 0.0, "no {} has failed", op.name());
        agreed.push(format!("{total} in tracefs over all agents, {panel}: {shown:.0}"));
    }
    eprintln!("dashboards: {}", agreed.join("; "));
    Ok(None)
}

/// `sda` checks pages that are not stable; `nvme0n1` has stable pages and corrupt blocks.
fn expected<'a>(
    complete: &'a str,
    degraded: &'a str,
    disks: [&'a Disk; 2],
) -> Vec<(Alert<'a>, Expected)> {
    use Expected::{Firing, Inactive, Pending};
    let [unstable, stable] = disks.map(|disk| disk.name.as_str());
    let on = |name, device| Alert { name, instance: complete, device };
    let without_device = |name, instance| Alert { name, instance, device: "" };
    vec![
        (on("StableTraceIntegrityError", unstable), Firing),
        (on("StableTraceIntegrityError", stable), Firing),
        (on("StableTracePageRewrittenInFlight", unstable), Firing),
        (on("StableTracePageRewrittenInFlight", stable), Inactive),
        (on("StableTraceDirectIoBufferRewritten", unstable), Firing),
        (on("StableTraceDirectIoBufferRewritten", stable), Inactive),
        (on("StableTracePathOrMediumSuspect", stable), Firing),
        (on("StableTraceUnstableWriteHole", unstable), Firing),
        (on("StableTraceUnstableWriteHole", stable), Inactive),
        (on("StableTraceUnstableWriteViolation", unstable), Inactive),
        (on("StableTraceUnstableWriteViolation", stable), Inactive),
        (on("StableTraceIntegrityWithoutStablePages", unstable), Pending),
        (on("StableTraceIntegrityWithoutStablePages", stable), Inactive),
        (without_device("StableTraceProbeNotAttached", degraded), Pending),
        (without_device("StableTraceProbeNotAttached", complete), Inactive),
        (without_device("StableTraceDown", DOWN), Pending),
        (without_device("StableTraceDown", complete), Inactive),
        (without_device("StableTraceAbsent", ""), Inactive),
    ]
}
