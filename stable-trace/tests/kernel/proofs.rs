//! Proofs from data and protection information of errors whose cause the test knows, because it makes them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use serde_json::json;
use stable_trace_analysis::event::{
    Cause, IntegrityError, Operation, PageKind, ProofKind, Verdict,
};

use crate::harness::console::QuietConsole;
use crate::harness::corrupt_blocks::{CorruptBlocks, change_nvme_image};
use crate::harness::direct_io::DirectFile;
use crate::harness::integrity_failures::integrity;
use crate::harness::nvme_passthrough::write_with_tuple;
use crate::harness::scsi_debug::IpChecksums;
use crate::harness::{
    Agent, Disk, Fs, Injection, Recording, Requirement, Scrape, Scratch, SlowDisk,
    StoppedProcesses, Test, TracefsInstance, Wac, host, wait_until,
};
use crate::verdicts::errors_with_verdicts;

/// Bytes of a command.
const BLOCK: usize = 4096;

/// Errors of each kind that a test injects. Of four kinds fewer than a CPU takes evidence of in a second.
const EACH: u32 = 7;

/// Errors that the test of a burst waits for.
const BURST: u64 = 3_000;

/// The burst lasts so long at least: more evidence than there is room for while the agent does not run.
const LASTS: Duration = Duration::from_secs(6);

/// Failures a second and CPU of which the programs take evidence.
const MOST_A_SECOND: u64 = 32;

/// Errors that a test of a workload waits for.
const MANY: u64 = 200;

/// `NVME_SC_GUARD_CHECK`: the status of a write with a wrong guard (`include/linux/nvme.h`).
const GUARD_CHECK: i32 = 0x282;

/// Of so many percent of the errors with evidence the proof is right, at least.
const MOST: usize = 99;

/// The same where the guard is an IP checksum. Other data may have the same sum: the stamps of two workers have, if the
/// number of each is the other's generation. Seen in 5 of 282.
const MOST_BY_SUM: usize = 95;

pub(crate) fn tests() -> Vec<Test> {
    let pi =
        |name: &str, body: fn() -> Result<()>| Test::guest(name, body).requires_traced_pi_disk();
    let mut tests: Vec<_> = ["auto", "fentry", "kprobe", "tracepoint"]
        .into_iter()
        .map(|method| {
            Test::guest(format!("of_injected_writes_are_intact_{method}"), move || injected(method))
                .requires_traced_pi_disk()
        })
        .collect();
    tests.push(pi("of_ip_checksums", ip_checksums).requires(Requirement::Program("modprobe")));
    tests.push(pi("of_a_burst_are_bounded", burst).requires(Requirement::NvmePi));
    tests.push(pi("of_a_changing_buffer_are_changes", changing_buffer));
    for fs in [Fs::Ext4, Fs::Xfs] {
        tests.push(
            Test::guest(format!("of_unstable_pages_of_{fs}_are_changes"), move || {
                unstable_pages(fs)
            })
            .requires_traced_pi_disk()
            .requires(Requirement::UnstablePages),
        );
    }
    let nvme = [Requirement::Agent, Requirement::Tracefs, Requirement::NvmePi];
    tests.push(
        Test::guest("of_a_changed_medium_name_the_change", changed_medium).requires_all(nvme),
    );
    // Seen on 6.12 and 7.3: `blk_mq_add_to_batch` (include/linux/blk-mq.h) takes the command although it failed.
    let batched = "this kernel completes passed-through commands without their error";
    tests.push(
        Test::guest("of_a_tuple_of_user_space_name_it", tuple_of_user_space)
            .requires_all(nvme)
            .requires(Requirement::KernelBefore(6, 2, batched)),
    );
    tests
}

/// The kind of an error's proof, which its verdict repeats.
fn kind(error: &IntegrityError, verdict: &Verdict) -> Result<ProofKind> {
    ensure!(error.proof == verdict.proof, "{error:#?} has another proof than {verdict:#?}");
    Ok(error.proof.as_ref().map_or(ProofKind::None, |proof| proof.kind))
}

/// An error, what its proof says, and its verdict.
type Proved<'a> = (ProofKind, &'a IntegrityError, &'a Verdict);

/// Errors whose proof says something. Prints a row of the table of `cargo xtask bench proofs`: how many errors
/// that were made in this way have each proof and each cause.
fn proved<'a>(recording: &'a Recording, made: &str) -> Result<Vec<Proved<'a>>> {
    let mut proved = Vec::new();
    for (error, verdict) in errors_with_verdicts(recording)? {
        proved.push((kind(error, verdict)?, error, verdict));
    }
    let (mut kinds, mut causes) = (BTreeMap::new(), BTreeMap::new());
    let mut reasons = BTreeSet::new();
    for (kind, error, verdict) in &proved {
        reasons.extend(error.proof.as_ref().and_then(|proof| proof.why_none.as_deref()));
        *kinds.entry(kind.name()).or_insert(0_u64) += 1;
        *causes.entry(verdict.cause.name()).or_insert(0_u64) += 1;
    }
    let (major, minor) = host::kernel_version();
    let kernel = format!("{major}.{minor}");
    let row = json!({"kernel": kernel, "made": made, "kinds": kinds, "causes": causes});
    println!("proofs: {row}");
    for reason in &reasons {
        println!("not proved: {reason}");
    }
    proved.retain(|(kind, ..)| *kind != ProofKind::None);
    Ok(proved)
}

/// The disk reports errors of writes from memory that no task changes: of direct I/O, and of the page cache.
fn injected(method: &str) -> Result<()> {
    let disk = Disk::pi()?;
    let direct = DirectFile::open(&disk.path)?;
    let agent = Agent::start(["-q", "--attach", method, "--listen=127.0.0.1:0"])?;
    let failed = TracefsInstance::recording_integrity_completions()?;
    for (opts, of) in [(Injection::DEVICE, 0), (Injection::HOST, 1)] {
        for n in 0..EACH {
            let at = u64::from((of * EACH + n) * 3) * BLOCK as u64;
            let failing = Injection::with(opts)?;
            let written = direct.write(at, &[7; BLOCK]);
            let mut file = OpenOptions::new().write(true).open(&disk.path)?;
            file.seek(SeekFrom::Start(at + (1 << 20)))?;
            let cached = file.write_all(&[4; BLOCK]).and_then(|()| file.sync_data());
            drop(failing);
            ensure!(written.is_err() && cached.is_err(), "{n}: {written:?}, {cached:?}");
        }
    }
    let all = failed.hits()?;
    ensure!(all >= u64::from(4 * EACH), "{all} failures");
    // A verdict follows its error after a second.
    let counted = wait_until(|| {
        let scrape = Scrape::of(&agent)?;
        let errors = scrape.sum("stable_trace_integrity_errors_total", &[]);
        let intact = scrape.sum("stable_trace_verdict_proofs_total", &[("kind", "memory_intact")]);
        let equal = intact.to_bits() == errors.to_bits();
        Ok((!equal).then(|| format!("{intact} of {errors} are counted as intact")))
    });
    let recording = agent.stop()?;
    counted.with_context(|| format!("{:#?}", not_intact(&recording)))?;
    let proved = proved(&recording, "injected into writes")?;
    // The kernel skips a kprobe that fires while another one's program runs on its CPU, such as the one at
    // `_printk`, and errors of the page cache are printed.
    let summary = recording.summary()?;
    let missed = summary.probe_runs_missed.get("blk_update_request").copied().unwrap_or(0);
    let seen = proved.len() as u64;
    ensure!(seen <= all && seen + missed >= all, "{seen} proofs of {all}, {missed} missed");
    let wrong = proved.iter().find(|(kind, error, verdict)| {
        // A process may have changed its buffer and changed it back.
        let buffer = error.pages.iter().all(|page| page.kind == PageKind::Anonymous);
        let sure = if buffer { verdict.confidence <= 0.5 } else { verdict.confidence >= 0.99 };
        *kind != ProofKind::MemoryIntact
            || error.op != Operation::Write
            || verdict.cause != Cause::NoRewriteSeen
            || !sure
    });
    ensure!(wrong.is_none(), "{wrong:#?}");
    Ok(())
}

/// Errors without a proof that their memory is intact.
fn not_intact(recording: &Recording) -> Vec<&IntegrityError> {
    let intact = |error: &IntegrityError| {
        error.proof.as_ref().is_some_and(|proof| proof.kind == ProofKind::MemoryIntact)
    };
    integrity(recording).filter(|error| !intact(error)).collect()
}

/// The same with another guard: an IP checksum, which the driver translates.
fn ip_checksums() -> Result<()> {
    let _loaded = IpChecksums::load()?;
    injected("auto")?;
    rewritten_buffer("the same, IP checksums", MOST_BY_SUM)
}

/// Threads write as fast as they can to a disk that reports errors of nearly all writes, and read corrupt blocks of
/// another disk: completions interrupt each other, and the agent does not run meanwhile. Evidence is taken of some of
/// the errors; all are counted, and those without.
fn burst() -> Result<()> {
    let _quiet = QuietConsole::new()?;
    let disk = Disk::pi()?;
    let corrupt = CorruptBlocks::create()?;
    let agent = Agent::start(["-q", "--ring-size=64MiB"])?;
    let failed = TracefsInstance::recording_integrity_completions()?;
    let failing = Injection::with(Injection::DEVICE)?;
    let stopped = StoppedProcesses::process(agent.pid())?;
    let (begin, done) = (Instant::now(), AtomicBool::new(false));
    std::thread::scope(|threads| {
        let write = |thread: u64| -> Result<()> {
            let direct = DirectFile::open(&disk.path)?;
            let mut n = 0;
            while !done.load(Ordering::Relaxed) {
                n += 1;
                // Of writes at once scsi_debug may leave one out (seen on 6.12).
                let _ = direct.write((thread * 64 + n % 64) * BLOCK as u64, &[7; BLOCK]);
            }
            Ok(())
        };
        let read = || -> Result<()> {
            while !done.load(Ordering::Relaxed) {
                corrupt.read()?;
            }
            Ok(())
        };
        let mut workers: Vec<_> =
            (0..4).map(|thread| threads.spawn(move || write(thread))).collect();
        workers.extend((0..2).map(|_| threads.spawn(read)));
        let many = failed.await_hits(BURST);
        std::thread::sleep(LASTS.saturating_sub(begin.elapsed()));
        done.store(true, Ordering::Relaxed);
        let mut workers = workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|_| Err(anyhow!("a worker panicked"))));
        many.and(workers.try_for_each(|ended| ended))
    })?;
    drop(failing);
    let (all, took) = (failed.hits()?, begin.elapsed());
    drop(stopped);
    corrupt.repair()?;
    let recording = agent.stop()?;

    let summary = recording.summary()?;
    proved(&recording, "a burst of injected writes and corrupt blocks")?;
    let is_copied = |error: &&IntegrityError| {
        let why = error.proof.as_ref().and_then(|proof| proof.why_none.as_deref());
        why.is_none_or(|why| !why.starts_with("nothing was copied"))
    };
    let with = integrity(&recording).filter(is_copied).count() as u64;
    let a_second = u128::from(all) * 1000 / took.as_millis().max(1);
    eprintln!(
        "{all} failures, {a_second} a second, {with} with evidence, {} without; missed: {:?}",
        summary.evidence_skipped, summary.probe_runs_missed
    );
    ensure!(summary.integrity_errors_total == all, "not {all}: {summary:#?}");
    ensure!(summary.events_lost == 0, "{summary:#?}");
    // A second of the programs is 2^30 ns, of which the first and the last are not whole.
    let seconds = took.as_secs() + 2;
    let cpus = std::thread::available_parallelism()?.get() as u64;
    let most = MOST_A_SECOND * seconds * cpus;
    ensure!(with <= most, "evidence of {with} failures in {seconds} s, more than {most}");
    ensure!(with + summary.evidence_skipped == all, "{with} with evidence: {summary:#?}");
    ensure!(summary.evidence_skipped > 0, "no burst: {a_second} failures a second");
    Ok(())
}

/// Every error of a direct-I/O buffer that other workers rewrite meanwhile.
fn changing_buffer() -> Result<()> {
    rewritten_buffer("buffer of direct I/O rewritten", MOST)
}

/// Of so many percent of the errors with evidence it is proved that the buffer changed.
fn rewritten_buffer(made: &str, most: usize) -> Result<()> {
    let _quiet = QuietConsole::new()?;
    let scratch = Scratch::new(Fs::Ext4, Disk::pi()?)?.with_shared_buffers();
    let agent = Agent::start(["-q", "--min-latency=1m", "--ring-size=64MiB"])?;
    let failed = TracefsInstance::recording_integrity_completions()?;
    let mut wac = Wac::spawn_paused(scratch.path(), "g")?;
    wac.start()?;
    failed.await_hits(MANY)?;
    wac.stop()?;
    let recording = agent.stop()?;
    are_changes(&recording, made, Cause::DirectIoBuffer, most)
}

/// Every error of pages of a file that writers rewrite under writeback.
fn unstable_pages(fs: Fs) -> Result<()> {
    let _quiet = QuietConsole::new()?;
    let scratch = Scratch::with_stable_writes(fs, Disk::pi()?, false)?;
    let _slow = SlowDisk::new(scratch.disk(), Duration::from_millis(2), 4)?;
    let agent = Agent::start(["-q", "--min-latency=1m", "--ring-size=64MiB"])?;
    let failed = TracefsInstance::recording_integrity_completions()?;
    let mut wac = Wac::spawn_paused(scratch.path(), "c")?;
    wac.start()?;
    failed.await_hits(MANY)?;
    wac.stop()?;
    let recording = agent.stop()?;
    are_changes(&recording, "page of a file rewritten", Cause::PageRewrittenInFlight, MOST)
}

/// Nearly all proofs say that the memory changed, and the verdicts follow.
fn are_changes(recording: &Recording, made: &str, cause: Cause, most: usize) -> Result<()> {
    let proved = proved(recording, made)?;
    let changed =
        |kind: ProofKind| matches!(kind, ProofKind::MemoryChanged | ProofKind::MemoryChanging);
    let right = proved.iter().filter(|(kind, ..)| changed(*kind)).count();
    ensure!(!proved.is_empty(), "nothing was proved: {:#?}", recording.summary()?);
    let other = proved.iter().find(|(kind, ..)| !changed(*kind));
    ensure!(right * 100 >= proved.len() * most, "{right} of {}: {other:#?}", proved.len());
    let sure = proved.iter().find(|(kind, _, verdict)| !changed(*kind) && verdict.confidence > 0.5);
    ensure!(sure.is_none(), "another cause, with confidence: {sure:#?}");
    // Pages of several owners share a request now and then.
    let wrong = proved.iter().find(|(kind, _, verdict)| {
        changed(*kind) && verdict.cause != cause && verdict.cause != Cause::Unknown
    });
    ensure!(wrong.is_none(), "another cause than {}: {wrong:#?}", cause.name());
    let named = proved.iter().filter(|(.., verdict)| verdict.cause == cause).count();
    ensure!(named * 10 >= proved.len() * 9, "{named} of {} are {}", proved.len(), cause.name());
    Ok(())
}

/// The first block of the emulated disk, which only the host verifies: with one bit changed, and with the data of
/// the next block. Zeros would pass: the emulated disk takes them for a block that was never written.
fn changed_medium() -> Result<()> {
    let disk = Disk::nvme_pi()?;
    let direct = DirectFile::open(&disk.path)?;
    let signed: Vec<u8> = (0..=250).cycle().take(2 * BLOCK).collect();
    let mut flipped = signed[..BLOCK].to_vec();
    flipped[1_000] ^= 1 << 5;
    let changes =
        [(flipped.as_slice(), ProofKind::BitFlip), (&signed[BLOCK..], ProofKind::ForeignData)];
    let agent = Agent::start(["-q"])?;
    for (changed, _) in changes {
        direct.write(0, &signed).context("cannot write")?;
        change_nvme_image(0, changed)?;
        // Through the page cache, which no process can change before the check.
        let read = fs::File::open(&disk.path)?.read_exact_at(&mut [0; 2 * BLOCK], 0);
        ensure!(read.is_err(), "the read succeeded");
    }
    let recording = agent.stop()?;
    direct.write(0, &[0; 2 * BLOCK]).context("cannot repair")?;

    let proved = proved(&recording, "medium changed")?;
    for (_, expected) in changes {
        let found = proved.iter().find(|(kind, ..)| *kind == expected);
        let (_, error, verdict) =
            found.with_context(|| format!("no {}: {proved:#?}", expected.name()))?;
        let (cause, confidence) = (verdict.cause, verdict.confidence);
        ensure!(cause == Cause::NoRewriteSeen && confidence >= 0.99, "{verdict:#?}");
        let proof = error.proof.as_ref().context("no proof")?;
        if expected == ProofKind::BitFlip {
            ensure!((proof.offset, proof.bit) == (Some(1_000), Some(5)), "{proof:?}");
        }
        ensure!(proof.interval == Some(0) && error.sector == Some(0), "{error:#?}");
    }
    ensure!(
        proved.iter().all(|(kind, ..)| changes.iter().any(|(_, of)| of == kind)),
        "{proved:#?}"
    );
    Ok(())
}

/// A command that is passed through to the driver, with a guard that is wrong.
fn tuple_of_user_space() -> Result<()> {
    let disk = Disk::nvme_pi()?;
    let agent = Agent::start(["-q"])?;
    let failed = TracefsInstance::recording_integrity_completions()?;
    let status = write_with_tuple(&disk, 3, &[7; BLOCK], [1, 2, 0, 0, 0, 0, 0, 0])?;
    ensure!(status & 0x7ff == GUARD_CHECK, "the status of the command is {status:#x}");
    let recording = agent.stop()?;

    let proved = proved(&recording, "tuple of user space")?;
    let [(kind, error, verdict)] = proved[..] else {
        bail!("not one proof: {proved:#?}; tracefs has {:#?}", failed.lines()?)
    };
    ensure!(failed.hits()? == 1, "{:#?}", failed.lines()?);
    ensure!(kind == ProofKind::ApplicationTuple, "{error:#?}");
    ensure!(error.op == Operation::Write && error.sector.is_none(), "{error:#?}");
    let conclusion = (verdict.cause, verdict.confidence >= 0.99);
    ensure!(conclusion == (Cause::ApplicationTuple, true), "{verdict:#?}");
    Ok(())
}
