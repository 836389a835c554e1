//! The claim of the 2011 stable-pages patch set: with stable pages no check of protection
//! information fails under any of the profiles a to f; without them checks fail at once.
//!
//! Each run prints a row `stable_pages_patchset: {…}` on standard error, of which `cargo xtask
//! bench seed` makes a table.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use stable_trace_analysis::event::{Event, Group, Line, Workload, WorkloadState};

use crate::harness::console::QuietConsole;
use crate::harness::{
    Agent, Disk, Fs, Recording, Requirement, Scratch, SlowDisk, Test, TracefsInstance,
};

/// The profiles of the patch set.
const PROFILES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// The profiles without direct I/O: stable pages protect only the page cache.
const PAGE_CACHE_PROFILES: [&str; 3] = ["a", "b", "c"];

/// Duration of a run.
const DURATION: &str = "--duration=1s";

/// A profile fails a check in one of this many runs, or the test fails.
const MAX_RUNS: u32 = 10;

/// Delay of each command of the disk, so that a page is under writeback most of the time.
const COMMAND: Duration = Duration::from_millis(2);

pub(crate) fn tests() -> Vec<Test> {
    let guest = |name: String, body: Box<dyn FnOnce() -> Result<()> + Send>| {
        Test::guest(name, body).requires_traced_pi_disk()
    };
    let mut tests = Vec::new();
    for fs in Fs::ALL {
        let body = Box::new(move || no_error_with_stable_pages(fs));
        tests.push(guest(format!("no_error_with_stable_pages_on_{fs}"), body));
    }
    for fs in [Fs::Ext4, Fs::Xfs] {
        let body = Box::new(move || errors_without_stable_pages(fs));
        tests.push(
            guest(format!("errors_without_stable_pages_on_{fs}"), body)
                .requires(Requirement::UnstablePages),
        );
    }
    tests
}

/// The result of one run.
struct Row {
    finished: Workload,
    /// Completions that failed their check, by tracefs.
    failed: u64,
}

fn no_error_with_stable_pages(fs: Fs) -> Result<()> {
    let _quiet = QuietConsole::new()?;
    let scratch = Scratch::new(fs, Disk::pi()?)?;
    let _slow = SlowDisk::new(scratch.disk(), COMMAND, 4)?;
    let agent = Agent::start(["--min-latency=1s", "--device", &scratch.disk().name])?;
    for profile in PROFILES {
        let row = run(fs, profile, "as it comes", scratch.path())?;
        ensure!(row.finished.operations > 0, "profile {profile} did nothing: {:?}", row.finished);
        ensure!(row.failed == 0, "profile {profile}: {} checks failed", row.failed);
        let refused = row.finished.errors.get("EILSEQ");
        ensure!(refused.is_none(), "profile {profile}: {refused:?} EILSEQ");
    }
    let recording = agent.stop()?;
    agent_counts(&recording, 0)
}

fn errors_without_stable_pages(fs: Fs) -> Result<()> {
    let _quiet = QuietConsole::new()?;
    let scratch = Scratch::with_stable_writes(fs, Disk::pi()?, false)?;
    let _slow = SlowDisk::new(scratch.disk(), COMMAND, 4)?;
    let agent = Agent::start(["--min-latency=1s", "--ring-size=64MiB"])?;
    let mut failed = 0;
    for profile in PAGE_CACHE_PROFILES {
        let mut found = 0;
        for _ in 0..MAX_RUNS {
            found = run(fs, profile, "off", scratch.path())?.failed;
            failed += found;
            if found > 0 {
                break;
            }
        }
        ensure!(found > 0, "profile {profile}: no check failed");
    }
    let recording = agent.stop()?;
    agent_counts(&recording, failed)
}

/// Runs one profile and counts the failed checks.
fn run(fs: Fs, profile: &str, stable: &str, folder: &Path) -> Result<Row> {
    let failures = TracefsInstance::recording_integrity_completions()?;
    let output = std::process::Command::new(Agent::program())
        .args(["wac", "--no-trace", "-q", "--format=json", "--threads=64", DURATION])
        .args(["--profile", profile, "--path"])
        .arg(folder)
        .stdin(Stdio::null())
        .output()
        .context("cannot start the workload")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the workload failed ({}): {errors}", output.status);
    let out = String::from_utf8(output.stdout)?;
    let last = out.lines().last().context("the workload printed no event")?;
    let Event::Workload(finished) = serde_json::from_str::<Line>(last)?.event else {
        anyhow::bail!("the last event is not of a workload: {last}");
    };
    ensure!(finished.state == WorkloadState::Finished, "the last event is {last}");
    // Writes back the remaining dirty pages, so that their failures are counted.
    rustix::fs::sync();
    let failed = failures.hits()?;
    let row = json!({
        "kernel": rustix::system::uname().release().to_string_lossy(),
        "fs": fs.name(),
        "profile": profile,
        "stable_writes": stable,
        "operations": finished.operations,
        "integrity_errors": failed,
        "errors": finished.errors,
    });
    eprintln!("stable_pages_patchset: {row}");
    Ok(Row { finished, failed })
}

/// The agent counts the same failures, if it has a probe for them.
fn agent_counts(recording: &Recording, expected: u64) -> Result<()> {
    let start = recording.lines.iter().find_map(|line| match &line.event {
        Event::Start(start) => Some(start),
        _ => None,
    });
    let probes = &start.context("no `start` line")?.probes;
    if !probes.iter().any(|probe| probe.group == Group::Integrity && probe.attached) {
        return Ok(());
    }
    let summary = recording.summary()?;
    let by_kind: BTreeMap<_, _> =
        summary.integrity_errors.iter().map(|line| (line.check.name(), line.count)).collect();
    ensure!(
        summary.integrity_errors_total == expected,
        "{expected} completions failed, and the agent counts {by_kind:?}"
    );
    Ok(())
}
