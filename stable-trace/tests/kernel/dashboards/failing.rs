//! A system on which everything fails that a panel has an eye on: then no expression may be empty,
//! and what Prometheus has is what tracefs counts.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use stable_trace_analysis::event::Operation;
use stable_trace_dashboards::expressions::Durations;

use super::alerts::{Alert, Expected, alert_as_expected};
use super::questions::{Questions, System, shown};
use crate::bed::console::QuietConsole;
use crate::bed::failures::completed;
use crate::bed::injection::SlowDisk;
use crate::bed::prometheus_server::free_port;
use crate::bed::{
    Agent, Disk, Fs, Held, Medium, Need, PrometheusServer, Scratch, Test, TracefsInstance, Wac,
    eventually,
};

/// Seconds from scrape to scrape. Each second, Prometheus alone would keep an emulated machine busy.
const INTERVAL: u32 = 4;
const TIMES: Durations = Durations { rate_interval: 20, range: 40 };

/// The disk takes this long for a command: it is what holds the workloads back.
const COMMAND: Duration = Duration::from_millis(20);

/// Longer than the test takes, in seconds.
const SINCE_THE_BEGINNING: u64 = 600;

/// How long all kinds of errors may take.
const LIMIT: Duration = Duration::from_mins(2);

/// Where nobody listens (`tcpmux`): an agent that is down.
const DOWN: &str = "127.0.0.1:1";

pub fn test() -> Test {
    Test::guest("dashboards::every_expression_has_data_where_checks_fail", where_checks_fail)
        .needs(Need::Agent)
        .needs(Need::Tracefs)
        .needs(Need::PiDisk)
        .needs(Need::NvmePi)
        .needs(Need::Program("prometheus"))
        // Later the checksums alone have the pages kept stable (`bdev_stable_writes`,
        // include/linux/blkdev.h, from 6.11 on), and one kernel is enough for what Prometheus makes
        // of it.
        .needs(Need::KernelFrom(6, 1))
        .needs(Need::KernelBefore(6, 11))
}

fn where_checks_fail() -> Result<()> {
    let _quiet = QuietConsole::new()?;
    let (seeing, blind) = (address()?, address()?);
    // Before there is any load.
    let prometheus = PrometheusServer::of(&[&seeing, &blind, DOWN], INTERVAL)?;
    let unstable = Scratch::with_stable_writes(Fs::Ext4, Disk::pi()?, false)?;
    let _slow = SlowDisk::new(unstable.disk(), COMMAND, 4)?;
    let stable = Scratch::new(Fs::Ext4, Disk::nvme_pi()?)?;
    let medium = Medium::changed()?;
    let [cached, direct] = ["cached", "direct"].map(|name| unstable.path().join(name));
    fs::create_dir(&cached)?;
    fs::create_dir(&direct)?;
    let failed = TracefsInstance::recording_integrity_completions()?;

    // It sees waits and failures, but no writer, and has no room to tell.
    let narrow = ["-q", "--attach=tracepoint", "--min-latency=0", "--ring-size=4096"];
    let _blind = Agent::start(narrow.iter().chain(&["--listen", blind.as_str()]))?;
    // A buffer of direct I/O that is rewritten in flight. Few threads, here and below: whoever scrapes
    // wants to run, too.
    let wac = ["wac", "-q", "--profile=g", "--threads=2", "--duration=1h", "--ring-size=64MiB"];
    let place = ["--listen", &seeing, "--path", &direct.to_string_lossy()];
    let agent = Agent::start(wac.iter().chain(&place))?;
    // Writes and stores into pages that nobody keeps stable; and writers that wait for stable pages
    // on a disk whose medium is bad.
    let mut others = [Wac::of_threads(8, &cached, "c")?, Wac::of_threads(4, stable.path(), "a")?];
    for workload in &mut others {
        workload.go()?;
    }
    let deadline = Instant::now() + LIMIT;
    while let Some(missing) = missing(&prometheus, &seeing, &blind)? {
        ensure!(Instant::now() < deadline, "{missing} does not grow");
        medium.read()?;
        thread::sleep(Duration::from_secs(1));
    }
    let questions = Questions::now(prometheus.api(), System::Failing, TIMES)?;
    for workload in others {
        workload.stop()?;
    }
    let held = Held::children_of(agent.pid())?;

    let disks = [unstable.disk(), stable.disk()];
    let agents = [seeing.as_str(), blind.as_str()];
    eventually(|| differs(&prometheus, agents, &failed, disks))?;
    questions.all_have_answers()?;
    alert_as_expected(prometheus.api(), &expected(&seeing, &blind, disks))?;
    drop(held);
    medium.mend()
}

fn address() -> Result<String> {
    Ok(format!("127.0.0.1:{}", free_port()?))
}

/// What does not grow yet, as far as it was scraped.
fn missing(prometheus: &PrometheusServer, seeing: &str, blind: &str) -> Result<Option<String>> {
    let wanted = [
        (blind, "events_lost_total{job!=\"\""),
        (seeing, "verdicts_total{cause=\"page_rewritten_in_flight\""),
        (seeing, "verdicts_total{cause=\"direct_io_buffer\""),
        (seeing, "verdicts_total{cause=\"no_rewrite_seen\""),
        (seeing, "unstable_writes_total{grade=\"hole\", context=\"write_begin\""),
        (seeing, "unstable_writes_total{grade=\"hole\", context=\"page_mkwrite\""),
        (seeing, "stall_seconds_count{context=\"write_begin\""),
        (seeing, "workload_errors_total{errno=\"EILSEQ\""),
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

/// Where Prometheus has another number of errors than tracefs: by agent, disk and operation, and in
/// the panels, which show those of all agents.
fn differs(
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
                let of = format!("device=\"{}\", op=\"{}\"", disk.name, op.name());
                let series = "stable_trace_integrity_errors_total";
                let expression = format!("sum({series}{{instance=\"{agent}\", {of}}})");
                let counted = prometheus.number(&expression)?;
                if counted.to_bits() != expected.to_bits() {
                    return Ok(Some(format!("{expression} is {counted}, tracefs has {expected}")));
                }
                total += expected;
            }
        }
        // Prometheus extends what it saw to the end of the time shown, by one scrape at most.
        let shown = shown(prometheus.api(), panel, SINCE_THE_BEGINNING)?;
        if shown < total || shown > total * 1.25 {
            return Ok(Some(format!("{panel} shows {shown}, tracefs has {total} for all agents")));
        }
        ensure!(total > 0.0, "no {} has failed", op.name());
        agreed.push(format!("{total} in tracefs for all agents, {panel}: {shown:.0}"));
    }
    eprintln!("dashboards: {}", agreed.join("; "));
    Ok(None)
}

/// `sda` lets writers have pages that it checks; `nvme0n1` keeps them stable, and has a bad medium.
fn expected<'a>(
    seeing: &'a str,
    blind: &'a str,
    disks: [&'a Disk; 2],
) -> Vec<(Alert<'a>, Expected)> {
    use Expected::{Firing, Inactive, Pending};
    let [unstable, stable] = disks.map(|disk| disk.name.as_str());
    let on = |name, device| Alert { name, instance: seeing, device };
    let of = |name, instance| Alert { name, instance, device: "" };
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
        (of("StableTraceProbeNotAttached", blind), Pending),
        (of("StableTraceProbeNotAttached", seeing), Inactive),
        (of("StableTraceDown", DOWN), Pending),
        (of("StableTraceDown", seeing), Inactive),
        (of("StableTraceAbsent", ""), Inactive),
    ]
}
