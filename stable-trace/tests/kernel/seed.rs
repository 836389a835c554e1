//! What the whole idea comes from, reproduced: with stable pages not one check of protection
//! information fails, whichever of the profiles a to f rewrites; without them they fail at once.
//!
//! Each run is a row, printed on standard error as `seed: {…}`: `cargo xtask bench seed` makes a
//! table of them.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use stable_trace_analysis::event::{Event, Group, Line, Workload, WorkloadState};

use crate::bed::console::QuietConsole;
use crate::bed::injection::SlowDisk;
use crate::bed::{Agent, Disk, Fs, Need, Recording, Scratch, Test, TracefsInstance};

/// The seed's profiles.
const PROFILES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// Those that go through the page cache alone: what stable pages protect.
const CACHED: [&str; 3] = ["a", "b", "c"];

/// How long each rewrites.
const RUN: &str = "--duration=1s";

/// Runs after which a profile that breaks nothing is believed.
const TRIES: u32 = 10;

/// The disk takes this long for a command, so that a page is under writeback most of the time.
const COMMAND: Duration = Duration::from_millis(2);

pub fn tests() -> Vec<Test> {
    let guest = |name: String, story: Box<dyn FnOnce() -> Result<()> + Send>| {
        Test::guest(name, story).needs(Need::Agent).needs(Need::Tracefs).needs(Need::PiDisk)
    };
    let mut tests = Vec::new();
    for fs in Fs::ALL {
        let story = Box::new(move || none_with_stable_pages(fs));
        tests.push(guest(format!("seed::no_error_with_stable_pages_on_{fs}"), story));
    }
    for fs in [Fs::Ext4, Fs::Xfs] {
        let story = Box::new(move || some_without(fs));
        // Later the checksums alone have the pages kept stable (`bdev_stable_writes`,
        // include/linux/blkdev.h, from 6.11 on).
        tests.push(
            guest(format!("seed::errors_without_stable_pages_on_{fs}"), story)
                .needs(Need::KernelBefore(6, 11)),
        );
    }
    tests
}

/// What came of one run.
struct Row {
    finished: Workload,
    /// Completions that failed their check, by tracefs.
    failed: u64,
}

fn none_with_stable_pages(fs: Fs) -> Result<()> {
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
    ours(&recording, 0)
}

fn some_without(fs: Fs) -> Result<()> {
    let _quiet = QuietConsole::new()?;
    let scratch = Scratch::with_stable_writes(fs, Disk::pi()?, false)?;
    let _slow = SlowDisk::new(scratch.disk(), COMMAND, 4)?;
    let agent = Agent::start(["--min-latency=1s", "--ring-size=64MiB"])?;
    let mut failed = 0;
    for profile in CACHED {
        let mut found = 0;
        for _ in 0..TRIES {
            found = run(fs, profile, "off", scratch.path())?.failed;
            failed += found;
            if found > 0 {
                break;
            }
        }
        ensure!(found > 0, "profile {profile}: not one check failed");
    }
    let recording = agent.stop()?;
    ours(&recording, failed)
}

/// One profile from its beginning to its end, beside a count of what fails.
fn run(fs: Fs, profile: &str, stable: &str, folder: &Path) -> Result<Row> {
    let failures = TracefsInstance::recording_integrity_completions()?;
    let output = std::process::Command::new(Agent::program())
        .args(["wac", "--no-trace", "-q", "--format=json", "--threads=64", RUN])
        .args(["--profile", profile, "--path"])
        .arg(folder)
        .stdin(Stdio::null())
        .output()
        .context("cannot start the workload")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the workload failed ({}): {errors}", output.status);
    let out = String::from_utf8(output.stdout)?;
    let last = out.lines().last().context("the workload had no last word")?;
    let Event::Workload(finished) = serde_json::from_str::<Line>(last)?.event else {
        anyhow::bail!("not of a workload: {last}");
    };
    ensure!(finished.state == WorkloadState::Finished, "the workload ended with {last}");
    // What the last writers left in the page cache is written as well before it is counted.
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
    eprintln!("seed: {row}");
    Ok(Row { finished, failed })
}

/// Our own count, where this agent looks for them.
fn ours(recording: &Recording, expected: u64) -> Result<()> {
    let start = recording.lines.iter().find_map(|line| match &line.event {
        Event::Start(start) => Some(start),
        _ => None,
    });
    let probes = &start.context("no start")?.probes;
    if !probes.iter().any(|probe| probe.group == Group::Integrity && probe.attached) {
        return Ok(());
    }
    let summary = recording.summary()?;
    let by_kind: BTreeMap<_, _> =
        summary.integrity_errors.iter().map(|line| (line.check.name(), line.count)).collect();
    ensure!(
        summary.integrity_errors_total == expected,
        "{expected} completions failed, and we saw {by_kind:?}"
    );
    Ok(())
}
