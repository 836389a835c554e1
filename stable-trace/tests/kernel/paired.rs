//! The workload that the tracer launches: what it was refused, beside the errors that refused it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use stable_trace_analysis::event::{Failed, WorkloadErrors};

use crate::bed::console::QuietConsole;
use crate::bed::failures::{completed, integrity};
use crate::bed::injection::SlowDisk;
use crate::bed::{Agent, Disk, Fs, Need, Recording, Scratch, Test, TracefsInstance};

/// Long enough for a word of the workload in between.
const RUN: &str = "--duration=3s";

pub fn tests() -> Vec<Test> {
    let guest = |name: &str, story: fn() -> Result<()>| {
        Test::guest(format!("paired::{name}"), story)
            .needs(Need::Agent)
            .needs(Need::Tracefs)
            .needs(Need::PiDisk)
    };
    vec![
        guest("direct_writes_and_their_errors", direct),
        // Later the checksums alone have the pages kept stable (`bdev_stable_writes`,
        // include/linux/blkdev.h, from 6.11 on).
        guest("cached_writes_and_their_errors", cached).needs(Need::KernelBefore(6, 11)),
    ]
}

/// A run of one profile, with what tracefs saw of it.
struct Paired {
    recording: Recording,
    found: WorkloadErrors,
    /// Completions that failed.
    hits: u64,
    /// Blocks of 4096 bytes in them.
    blocks: u64,
}

fn run(profile: &str, stable: bool) -> Result<Paired> {
    let _quiet = QuietConsole::new()?;
    let scratch = Scratch::with_stable_writes(Fs::Ext4, Disk::pi()?, stable)?.with_shared_buffers();
    let _slow = SlowDisk::new(scratch.disk(), Duration::from_millis(2), 4)?;
    let failed = TracefsInstance::recording_integrity_completions()?;
    let path = scratch.path().to_string_lossy();
    let arguments = ["wac", "--profile", profile, RUN, "--path", &path, "-q", "--min-latency=1m"];
    let recording = Agent::run(arguments.iter().chain(&["--ring-size=64MiB"]))?;

    ensure!(recording.status.success(), "{}: {}", recording.status, recording.errors);
    let summary = recording.summary()?;
    ensure!(summary.events_lost == 0, "the stream is incomplete");
    let [found] = &summary.workload_errors[..] else {
        anyhow::bail!("not one profile: {:#?}", summary.workload_errors);
    };
    let found = found.clone();
    ensure!(found.profile == profile, "{found:#?}");
    let completions = completed(&failed, scratch.disk())?;
    let blocks = completions.iter().map(|failure| failure.sectors / 8).sum();
    in_intervals(&found)?;
    Ok(Paired { recording, found, hits: completions.len() as u64, blocks })
}

/// A direct write is refused by the request that carried it: the counts agree to the last one.
fn direct() -> Result<()> {
    let Paired { recording, found, hits, blocks } = run("g", true)?;
    ensure!(hits > 0, "not one check failed");
    ensure!(found.integrity_errors == hits, "tracefs has {hits}: {found:#?}");
    let refused = of(&found.failed, "pwrite").context("no write was refused")?;
    ensure!(refused == blocks, "{blocks} blocks failed: {found:#?}");
    let nameless = integrity(&recording).filter(|error| error.pid.is_none()).count() as u64;
    let own = found.integrity_errors_own;
    ensure!(own + nameless == hits, "{own} its own, {nameless} nobody's, of {hits}");
    Ok(())
}

/// A page that fails in the page cache is told to whoever syncs its file next.
fn cached() -> Result<()> {
    let Paired { found, hits, .. } = run("a", false)?;
    ensure!(hits > 0, "not one check failed");
    ensure!(of(&found.failed, "pwrite").is_none(), "a cached write was refused: {found:#?}");
    ensure!(of(&found.failed, "sync_file_range").is_some(), "no sync was refused: {found:#?}");
    // What fails when the last worker has ended is nobody's any more.
    let (all, own) = (found.integrity_errors, found.integrity_errors_own);
    ensure!(0 < all && all <= hits && own == all, "tracefs has {hits}: {found:#?}");
    Ok(())
}

/// How often a call was refused for want of integrity: ext4 on 5.10 says EIO.
fn of(failed: &Failed, call: &str) -> Option<u64> {
    let errors = failed.get(call)?;
    let refused: u64 = ["EILSEQ", "EIO"].iter().filter_map(|name| errors.get(*name)).sum();
    (refused > 0).then_some(refused)
}

/// The parts come to the whole.
fn in_intervals(found: &WorkloadErrors) -> Result<()> {
    let count = |failed: &Failed| failed.values().flat_map(|of| of.values()).sum::<u64>();
    let parts = found.intervals.iter();
    let refused: u64 = parts.clone().map(|part| count(&part.failed)).sum();
    let errors: u64 = parts.map(|part| part.integrity_errors).sum();
    ensure!(refused == count(&found.failed) && errors == found.integrity_errors, "{found:#?}");
    ensure!(found.intervals.len() > 1, "all in one piece: {found:#?}");
    Ok(())
}
