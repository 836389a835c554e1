//! Verdicts on errors whose cause the test knows, because it makes them.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use stable_trace_analysis::event::{
    Cause, Event, IntegrityError, Operation, PageKind, ProofKind, Verdict,
};

use crate::harness::console::QuietConsole;
use crate::harness::direct_io::DirectFile;
use crate::harness::disk_setting::DiskSetting;
use crate::harness::scratch::Format;
use crate::harness::shared_memory::SharedMemory;
use crate::harness::{
    Agent, CorruptBlocks, Disk, Fs, Injection, Recording, Requirement, Scratch, SlowDisk, Test,
    TracefsInstance, Wac, host,
};

/// Bytes of a command.
const BLOCK: usize = 4096;

/// Errors of each cause that a test makes or waits for.
const EACH: u64 = 20;

pub(crate) fn tests() -> Vec<Test> {
    let guest =
        |name: &str, body: fn() -> Result<()>| Test::guest(name, body).requires_traced_pi_disk();
    vec![
        guest("metadata_is_unknown_without_proof_ext2", || metadata(Format::EXT2)),
        guest("metadata_is_unknown_without_proof_vfat", || metadata(Format::VFAT))
            .requires(Requirement::Program("mkfs.vfat")),
        guest("injected_errors_are_not_rewrites", injected),
        guest("a_buffer_in_shared_memory_is_a_buffer", shared_buffer),
        guest("three_simultaneous_causes_are_distinguished", three_causes)
            .requires(Requirement::NvmePi),
    ]
}

/// Each integrity error of a run with its verdict.
pub(crate) fn errors_with_verdicts(
    recording: &Recording,
) -> Result<Vec<(&IntegrityError, &Verdict)>> {
    let verdicts: BTreeMap<_, _> = recording
        .lines
        .iter()
        .filter_map(|line| match &line.event {
            Event::Verdict(verdict) => Some((verdict.integrity_seq, verdict)),
            _ => None,
        })
        .collect();
    let errors = recording.lines.iter().filter_map(|line| match &line.event {
        Event::Integrity(error) => Some((line.seq, error)),
        _ => None,
    });
    errors
        .map(|(seq, error)| {
            let verdict = verdicts.get(&seq).copied();
            Ok((error, verdict.with_context(|| format!("error {seq} has no verdict"))?))
        })
        .collect()
}

/// At least this percentage of the errors has the cause.
pub(crate) fn mostly<'a>(
    errors: impl IntoIterator<Item = &'a (&'a IntegrityError, &'a Verdict)>,
    cause: Cause,
    percent: usize,
) -> Result<()> {
    let all: Vec<_> = errors.into_iter().collect();
    let right = all.iter().filter(|(_, verdict)| verdict.cause == cause).count();
    let wrong = all.iter().find(|(_, verdict)| verdict.cause != cause);
    eprintln!("verdicts: {right} of {} are {}", all.len(), cause.name());
    ensure!(
        !all.is_empty() && right * 100 >= all.len() * percent,
        "{right} of {} are {}, fewer than {percent} %: {wrong:#?}",
        all.len(),
        cause.name()
    );
    Ok(())
}

/// The disk reports errors without any rewrite: of reads, and of buffered writes that wait for each
/// writeback.
fn injected() -> Result<()> {
    let disk = Disk::pi()?;
    let direct = DirectFile::open(&disk.path)?;
    let agent = Agent::start(["-q"])?;
    let failed = TracefsInstance::recording_integrity_completions()?;
    for n in 0..EACH {
        let at = (n * 3) * BLOCK as u64;
        let failing = Injection::with(Injection::DEVICE)?;
        let mut file = fs::OpenOptions::new().write(true).open(&disk.path)?;
        std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(at))?;
        let done = file.write_all(&[4; BLOCK]).and_then(|()| file.sync_data());
        let read = direct.read(at, BLOCK);
        drop(failing);
        ensure!(done.is_err() && read.is_err(), "write {n} got {done:?}, its read {read:?}");
    }
    let recording = agent.stop()?;

    let errors = errors_with_verdicts(&recording)?;
    ensure!(errors.len() as u64 == failed.hits()?, "{} of {}", errors.len(), failed.hits()?);
    ensure!(errors.len() as u64 >= 2 * EACH, "{} errors", errors.len());
    // Without a proof a write from the page cache of a disk may be one of metadata.
    let (unproven, decided): (Vec<_>, Vec<_>) = errors.into_iter().partition(|(error, _)| {
        error.op == Operation::Write
            && error.proof.as_ref().is_some_and(|proof| proof.kind == ProofKind::None)
    });
    let wrong = unproven.iter().find(|(_, verdict)| verdict.cause != Cause::Unknown);
    ensure!(wrong.is_none(), "not proved: {wrong:#?}");
    ensure!(unproven.len() < decided.len(), "{} errors are not proved", unproven.len());
    mostly(&decided, Cause::NoRewriteSeen, 95)
}

/// Folders, of which each has a block of its own: several times what is proved in a second.
const FOLDERS: u32 = 400;

/// Writes of metadata fail, which a file system changes in the page cache of its block device: whether something
/// has rewritten it cannot be seen.
fn metadata(format: Format) -> Result<()> {
    let _quiet = QuietConsole::new()?;
    let scratch = Scratch::formatted(format, Disk::pi()?)?;
    let _single = DiskSetting::no_merges(scratch.disk())?;
    // Folders have no data. The root folder of FAT has room for few.
    let parent = scratch.path().join("parent");
    fs::create_dir(&parent)?;
    for number in 0..FOLDERS {
        fs::create_dir(parent.join(number.to_string()))?;
    }
    let agent = Agent::start(["-q"])?;
    let failed = TracefsInstance::recording_integrity_completions()?;
    let failing = Injection::with(Injection::DEVICE)?;
    rustix::fs::sync();
    failed.await_hits(u64::from(FOLDERS) / 2)?;
    drop(failing);
    let recording = agent.stop()?;

    let errors = errors_with_verdicts(&recording)?;
    ensure!(errors.len() as u64 == failed.hits()?, "{} of {}", errors.len(), failed.hits()?);
    let mut unproven = 0;
    for (error, verdict) in &errors {
        // The flusher writes pages of the block device with the marks of writeback.
        let named = error
            .pages
            .iter()
            .find(|page| page.kind != PageKind::Unknown && page.fs.as_deref() != Some("bdev"));
        ensure!(named.is_none(), "metadata is taken for {named:?}");
        let proof = error.proof.as_ref().map(|proof| proof.kind);
        // The file system may read a block again whose write failed. Nothing can have changed what never came.
        let (cause, confidence) = match proof {
            Some(ProofKind::MemoryIntact) => (Cause::NoRewriteSeen, 0.99),
            Some(ProofKind::None) if error.op == Operation::Read => (Cause::NoRewriteSeen, 0.95),
            Some(ProofKind::None) => (Cause::Unknown, 0.0),
            other => bail!("{other:?} of memory that nothing changes: {error:#?}"),
        };
        ensure!(
            verdict.cause == cause && verdict.confidence <= confidence,
            "{error:#?} {verdict:#?}"
        );
        unproven += usize::from(proof == Some(ProofKind::None));
    }
    eprintln!("verdicts: {unproven} of {} without proof", errors.len());
    ensure!(unproven > 0, "all {} errors are proved", errors.len());
    ensure!(unproven < errors.len(), "none of {unproven} errors is proved");
    Ok(())
}

/// Threads write to a file by direct I/O from memory that processes share, and change it meanwhile, as a database
/// with its buffers in shared memory may.
fn shared_buffer() -> Result<()> {
    let _quiet = QuietConsole::new()?;
    let scratch = Scratch::new(Fs::Ext4, Disk::pi()?)?.with_shared_buffers();
    let _slow = SlowDisk::new(scratch.disk(), Duration::from_millis(2), 4)?;
    let path = scratch.path().join("file");
    fs::write(&path, vec![0; 16 * BLOCK])?;
    let file = DirectFile::open(&path)?;
    let memory = SharedMemory::anonymous(1)?;
    let agent = Agent::start(["-q"])?;
    let failed = TracefsInstance::recording_integrity_completions()?;
    let done = AtomicBool::new(false);
    std::thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    // A failed check fails the write.
                    let _ = memory.write_to(file.as_file());
                }
            });
        }
        threads.spawn(|| {
            for byte in (0..=u8::MAX).cycle().take_while(|_| !done.load(Ordering::Relaxed)) {
                memory.write(byte);
            }
        });
        let enough = failed.await_hits(EACH);
        done.store(true, Ordering::Relaxed);
        enough
    })?;
    let recording = agent.stop()?;

    let errors = errors_with_verdicts(&recording)?;
    ensure!(errors.len() as u64 == failed.hits()?, "{} of {}", errors.len(), failed.hits()?);
    let shared = |error: &IntegrityError| {
        !error.pages.is_empty() && error.pages.iter().all(|page| page.kind == PageKind::Shared)
    };
    let other = errors.iter().find(|(error, _)| !shared(error));
    ensure!(other.is_none(), "not of the buffer: {other:#?}");
    // Now and then the memory is as it was when it was signed again.
    let wrong = errors
        .iter()
        .find(|(_, verdict)| verdict.cause != Cause::DirectIoBuffer && verdict.confidence > 0.5);
    ensure!(wrong.is_none(), "surely of another cause: {wrong:#?}");
    mostly(&errors, Cause::DirectIoBuffer, 75)
}

/// At the same time: unstable pages (where the kernel allows them), a direct-I/O buffer that
/// changes in flight, and blocks that are corrupt on the medium of another disk.
fn three_causes() -> Result<()> {
    let _quiet = QuietConsole::new()?;
    let unstable = !host::integrity_keeps_pages_stable();
    let corrupt = CorruptBlocks::create()?;
    let scratch =
        Scratch::with_stable_writes(Fs::Ext4, Disk::pi()?, !unstable)?.with_shared_buffers();
    let _slow = SlowDisk::new(scratch.disk(), Duration::from_millis(2), 4)?;
    let folders = [scratch.path().join("cached"), scratch.path().join("direct")];
    for folder in &folders {
        fs::create_dir(folder)?;
    }
    let agent = Agent::start(["-q", "--ring-size=64MiB"])?;
    let failed = TracefsInstance::recording_integrity_completions()?;
    let mut cached = Wac::spawn_paused(&folders[0], "a")?;
    let mut direct = Wac::spawn_paused(&folders[1], "g")?;
    cached.start()?;
    direct.start()?;
    let (ino, buffer) = (cached.file()?.ino(), direct.pid());
    for _ in 0..EACH {
        corrupt.read()?;
        std::thread::sleep(Duration::from_millis(100));
    }
    failed.await_hits(10 * EACH)?;
    cached.stop()?;
    direct.stop()?;
    let recording = agent.stop()?;
    corrupt.repair()?;

    let errors = errors_with_verdicts(&recording)?;
    let on_medium = |error: &IntegrityError| error.device.as_deref() == Some(&corrupt.disk.name);
    let errors_where = |wanted: &dyn Fn(&IntegrityError) -> bool| -> Vec<_> {
        errors.iter().filter(|(error, _)| wanted(error)).copied().collect()
    };
    mostly(&errors_where(&on_medium), Cause::NoRewriteSeen, 90)?;
    let of_buffer = |error: &IntegrityError| !on_medium(error) && error.pid == Some(buffer);
    mostly(&errors_where(&of_buffer), Cause::DirectIoBuffer, 90)?;
    // Adjacent blocks of both files may share a request, which fails as a whole. The cause of such
    // an error is ambiguous, so it is left out.
    let of_file = |error: &IntegrityError| {
        !on_medium(error)
            && !error.pages.is_empty()
            && error.pages.iter().all(|page| page.ino == Some(ino))
    };
    let rewritten = errors_where(&of_file);
    if unstable {
        mostly(&rewritten, Cause::PageRewrittenInFlight, 90)?;
    } else {
        ensure!(rewritten.is_empty(), "stable pages failed: {rewritten:#?}");
    }
    Ok(())
}
