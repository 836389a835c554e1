//! Genuine guard errors, made by the paired workload: thousands of a shared buffer, and those of
//! pages that nobody keeps stable.

use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use stable_trace_analysis::event::{Cause, Check, Operation, PageKind, Source};

use super::on_the_disk;
use crate::bed::console::QuietConsole;
use crate::bed::failures::{agree, checks_are_known, completed, integrity};
use crate::bed::injection::SlowDisk;
use crate::bed::{Agent, Disk, Fs, Held, Need, Scratch, Test, TracefsInstance, Wac};
use crate::verdicts::{judged, mostly};

/// Errors of a shared buffer that are awaited.
const STORM: u64 = 1_000;

/// Errors of a profile that are awaited where pages are not stable.
const MANY: u64 = 10;

pub fn tests() -> Vec<Test> {
    let mut tests = vec![
        on_the_disk("a_shared_buffer_on_ext4", || shared_buffer(Ring::WithRoom)),
        on_the_disk("a_shared_buffer_in_a_small_ring", || shared_buffer(Ring::Full)),
    ];
    for fs in [Fs::Ext4, Fs::Xfs] {
        // Later the checksums alone have the pages kept stable (`bdev_stable_writes`,
        // include/linux/blkdev.h, from 6.11 on).
        let story = move || unstable_pages(fs);
        let test = on_the_disk(&format!("unstable_pages_of_{fs}"), story);
        tests.push(test.needs(Need::KernelBefore(6, 11)));
    }
    tests
}

/// Whether the stream can carry all that happens.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ring {
    WithRoom,
    /// A small one, of an agent that stands still while the errors come. Left to itself it may well
    /// keep up: 985 to 998 of some 1,000 errors were streamed by agents of 6.1.
    Full,
}

/// Profile g. However small the ring, nothing is missing from the counts.
fn shared_buffer(ring: Ring) -> Result<()> {
    let _quiet = QuietConsole::new()?;
    let scratch = Scratch::new(Fs::Ext4, Disk::pi()?)?.with_shared_buffers();
    let disk = scratch.disk();
    // Of the small one some 400 errors are told.
    let size = (ring == Ring::Full).then_some("--ring-size=256KiB");
    let agent = Agent::start(["-q", "--min-latency=1m"].into_iter().chain(size))?;
    let failed = TracefsInstance::recording_integrity_completions()?;
    let mut wac = Wac::ready(scratch.path(), "g")?;
    let held = (ring == Ring::Full).then(|| Held::process(agent.pid())).transpose()?;
    wac.go()?;
    let pid = wac.pid();
    failed.await_hits(STORM)?;
    drop(held);
    let last = wac.stop()?;
    let recording = agent.stop()?;

    let summary = recording.summary()?;
    let completions = completed(&failed, disk)?;
    let completed = completions.len() as u64;
    let total = summary.integrity_errors_total;
    ensure!(total == completed, "{completed} completions: {summary:#?}");
    let refused: u64 = last.errors.get("EILSEQ").copied().unwrap_or(0);
    // A request may carry the writes of several workers, each of a block: all of them fail with it.
    let blocks: u64 = completions.iter().map(|failure| failure.sectors / 8).sum();
    ensure!(refused == blocks, "{blocks} blocks failed, the workload got {last:?}");
    let lines = integrity(&recording).count() as u64;
    ensure!(lines + recording.lost() == total, "{lines} lines: {summary:#?}");
    if ring == Ring::WithRoom {
        agree(&recording, &failed, disk)?;
        mostly(&judged(&recording)?, Cause::DirectIoBuffer, 99)?;
    } else {
        ensure!(recording.lost() > 0, "the ring had room for all of it: {summary:#?}");
    }
    let strange = integrity(&recording).find(|error| {
        error.op != Operation::Write
            || !matches!(error.check, Check::Guard | Check::Unknown)
            || error.source != Source::Scsi
            || error.path.is_some()
            || error.pid.is_some_and(|of| of != pid)
            || error.pages.iter().any(|page| page.kind != PageKind::Anonymous)
    });
    ensure!(strange.is_none(), "not of the buffer of {pid}: {strange:#?}");
    checks_are_known(&recording)?;
    let nameless = integrity(&recording).filter(|error| error.pid.is_none()).count() as u64;
    eprintln!("integrity: {nameless} of {lines} without their task");
    ensure!(nameless * 2 < lines, "{nameless} of {lines} without their task");
    Ok(())
}

/// Every error names the workload's own file, and a page inside it.
fn unstable_pages(fs: Fs) -> Result<()> {
    let _quiet = QuietConsole::new()?;
    let scratch = Scratch::with_stable_writes(fs, Disk::pi()?, false)?;
    let disk = scratch.disk();
    let _slow = SlowDisk::new(disk, Duration::from_millis(2), 4)?;
    let agent = Agent::start(["-q", "--ring-size=64MiB"])?;
    let failed = TracefsInstance::recording_integrity_completions()?;
    let mut files = Vec::new();
    let mut before = 0;
    for profile in ["a", "b", "c"] {
        let mut wac = Wac::ready(scratch.path(), profile)?;
        wac.go()?;
        let file = wac.file()?;
        failed.await_hits(before + MANY).with_context(|| format!("profile {profile}"))?;
        files.push((file.ino(), file.size()));
        wac.stop()?;
        before = failed.hits()?;
    }
    let recording = agent.stop()?;

    agree(&recording, &failed, disk)?;
    checks_are_known(&recording)?;
    mostly(&judged(&recording)?, Cause::PageRewrittenInFlight, 95)?;
    let device = Some(disk.name.as_str());
    let (mut with_path, mut mixed) = (0, 0);
    for error in integrity(&recording) {
        // Other pages may share the request, of which the kernel does not say whose they are: seen on
        // 6.1, four of them before one of the file. What they were is not known.
        let (of_files, others): (Vec<_>, Vec<_>) =
            error.pages.iter().partition(|page| page.kind == PageKind::File);
        let inside = of_files.iter().all(|page| {
            page.stable == Some(false)
                && page.device.as_deref() == device
                && files.iter().any(|(ino, size)| {
                    page.ino == Some(*ino) && page.index.is_some_and(|index| index << 12 < *size)
                })
        });
        let fs = error.fs.as_deref() == Some(fs.name()) || !others.is_empty();
        let foreign = others.iter().any(|page| page.kind != PageKind::Unknown);
        let sound = inside && fs && !foreign && !of_files.is_empty();
        ensure!(sound, "not of {files:?} on {device:?}: {error:#?}");
        mixed += usize::from(!others.is_empty());
        let guard = matches!(error.check, Check::Guard | Check::Unknown);
        let place = (error.op, error.source);
        ensure!(guard && place == (Operation::Write, Source::Scsi), "{error:#?}");
        if let Some(path) = &error.path {
            with_path += 1;
            let of = scratch.path().to_string_lossy();
            ensure!(path.starts_with(of.as_ref()), "not in {of}: {error:#?}");
        }
    }
    let all = integrity(&recording).count();
    ensure!(mixed * 4 <= all, "{mixed} of {all} share their request with pages of nobody");
    ensure!(with_path > 0, "not one path was found");
    Ok(())
}
