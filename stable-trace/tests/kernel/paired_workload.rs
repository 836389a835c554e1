//! The workload that the tracer launches: its failed calls match the integrity errors.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use stable_trace_analysis::event::{FailedCalls, WorkloadErrors};

use crate::harness::console::QuietConsole;
use crate::harness::integrity_failures::{completed, integrity};
use crate::harness::{
    Agent, Disk, Fs, Recording, Requirement, Scratch, SlowDisk, Test, TracefsInstance,
};

/// Long enough for progress events of the workload.
const DURATION: &str = "--duration=3s";

pub(crate) fn tests() -> Vec<Test> {
    let guest =
        |name: &str, body: fn() -> Result<()>| Test::guest(name, body).requires_traced_pi_disk();
    vec![
        guest("failed_direct_writes_match_integrity_errors", direct),
        guest("failed_syncs_match_integrity_errors", cached).requires(Requirement::UnstablePages),
    ]
}

/// A run of one profile, with the failures that tracefs saw.
struct Paired {
    recording: Recording,
    reported: WorkloadErrors,
    /// Failed completions.
    hits: u64,
    /// Blocks of 4096 bytes in the failed completions.
    blocks: u64,
}

fn run(profile: &str, stable: bool) -> Result<Paired> {
    let _quiet = QuietConsole::new()?;
    let scratch = Scratch::with_stable_writes(Fs::Ext4, Disk::pi()?, stable)?.with_shared_buffers();
    let _slow = SlowDisk::new(scratch.disk(), Duration::from_millis(2), 4)?;
    let failed = TracefsInstance::recording_integrity_completions()?;
    let path = scratch.path().to_string_lossy();
    let arguments =
        ["wac", "--profile", profile, DURATION, "--path", &path, "-q", "--min-latency=1m"];
    let recording = Agent::run(arguments.iter().chain(&["--ring-size=64MiB"]))?;

    ensure!(recording.status.success(), "{}: {}", recording.status, recording.errors);
    let summary = recording.summary()?;
    ensure!(summary.events_lost == 0, "the stream is incomplete");
    let [reported] = &summary.workload_errors[..] else {
        anyhow::bail!("not one profile: {:#?}", summary.workload_errors);
    };
    let reported = reported.clone();
    ensure!(reported.profile == profile, "{reported:#?}");
    let completions = completed(&failed, scratch.disk())?;
    let blocks = completions.iter().map(|failure| failure.sectors / 8).sum();
    intervals_sum_to_totals(&reported)?;
    Ok(Paired { recording, reported, hits: completions.len() as u64, blocks })
}

/// A direct write fails with the request that carries it: the counts are equal.
fn direct() -> Result<()> {
    let Paired { recording, reported, hits, blocks } = run("g", true)?;
    ensure!(hits > 0, "no check failed");
    ensure!(reported.integrity_errors == hits, "tracefs has {hits}: {reported:#?}");
    let failed = failed_checks(&reported.failed, "pwrite").context("no write failed")?;
    ensure!(failed == blocks, "{blocks} blocks failed: {reported:#?}");
    let anonymous = integrity(&recording).filter(|error| error.pid.is_none()).count() as u64;
    let own = reported.integrity_errors_own;
    ensure!(own + anonymous == hits, "{own} of the workload, {anonymous} without task, of {hits}");
    Ok(())
}

/// A failed writeback is reported by the next sync of the file.
fn cached() -> Result<()> {
    let Paired { reported, hits, .. } = run("a", false)?;
    ensure!(hits > 0, "no check failed");
    let writes = failed_checks(&reported.failed, "pwrite");
    ensure!(writes.is_none(), "a cached write failed: {reported:#?}");
    let syncs = failed_checks(&reported.failed, "sync_file_range");
    ensure!(syncs.is_some(), "no sync failed: {reported:#?}");
    // A failure after the end of the last worker is not attributed to the workload.
    let (all, own) = (reported.integrity_errors, reported.integrity_errors_own);
    ensure!(0 < all && all <= hits && own == all, "tracefs has {hits}: {reported:#?}");
    Ok(())
}

/// How often a call failed because of a failed check: EILSEQ, or EIO by ext4 on 5.10.
fn failed_checks(failed: &FailedCalls, call: &str) -> Option<u64> {
    let errors = failed.get(call)?;
    let count: u64 = ["EILSEQ", "EIO"].iter().filter_map(|name| errors.get(*name)).sum();
    (count > 0).then_some(count)
}

fn intervals_sum_to_totals(reported: &WorkloadErrors) -> Result<()> {
    let count = |failed: &FailedCalls| failed.values().flat_map(|of| of.values()).sum::<u64>();
    let intervals = reported.intervals.iter();
    let failed: u64 = intervals.clone().map(|interval| count(&interval.failed)).sum();
    let errors: u64 = intervals.map(|interval| interval.integrity_errors).sum();
    ensure!(
        failed == count(&reported.failed) && errors == reported.integrity_errors,
        "{reported:#?}"
    );
    ensure!(reported.intervals.len() > 1, "only one interval: {reported:#?}");
    Ok(())
}
