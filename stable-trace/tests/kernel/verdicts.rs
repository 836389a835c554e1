//! Verdicts against what was done where: errors whose cause is known, because we made it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use stable_trace_analysis::event::{Cause, Event, IntegrityError, Verdict};

use crate::bed::console::QuietConsole;
use crate::bed::direct::Direct;
use crate::bed::injection::SlowDisk;
use crate::bed::{
    Agent, Disk, Fs, Injection, Medium, Need, Recording, Scratch, Test, TracefsInstance, Wac, host,
};

/// Bytes of a command.
const BLOCK: usize = 4096;

/// Errors of each kind that are awaited or made.
const EACH: u64 = 20;

pub fn tests() -> Vec<Test> {
    let guest = |name: &str, story: fn() -> Result<()>| {
        Test::guest(format!("verdicts::{name}"), story)
            .needs(Need::Agent)
            .needs(Need::Tracefs)
            .needs(Need::PiDisk)
    };
    vec![
        guest("injected_errors_are_no_rewrites", injected),
        guest("three_causes_at_once", three_causes).needs(Need::NvmePi),
    ]
}

/// Each integrity error of a run with its verdict.
pub fn judged(recording: &Recording) -> Result<Vec<(&IntegrityError, &Verdict)>> {
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

/// At least so many in a hundred of these have the cause.
pub fn mostly<'a>(
    judged: impl IntoIterator<Item = &'a (&'a IntegrityError, &'a Verdict)>,
    cause: Cause,
    percent: usize,
) -> Result<()> {
    let all: Vec<_> = judged.into_iter().collect();
    let right = all.iter().filter(|(_, verdict)| verdict.cause == cause).count();
    let wrong = all.iter().find(|(_, verdict)| verdict.cause != cause);
    eprintln!("verdicts: {right} of {} are {}", all.len(), cause.name());
    ensure!(
        !all.is_empty() && right * 100 >= all.len() * percent,
        "{right} of {} are {}, not {percent} %: {wrong:#?}",
        all.len(),
        cause.name()
    );
    Ok(())
}

/// The disk reports errors where nobody rewrites anything: buffered writes of pages that wait for
/// their writeback one by one, and reads.
fn injected() -> Result<()> {
    let disk = Disk::pi()?;
    let direct = Direct::open(&disk.path)?;
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

    let judged = judged(&recording)?;
    ensure!(judged.len() as u64 == failed.hits()?, "{} of {}", judged.len(), failed.hits()?);
    ensure!(judged.len() as u64 >= 2 * EACH, "{} errors", judged.len());
    mostly(&judged, Cause::NoRewriteSeen, 95)
}

/// At once: pages that nobody keeps stable (where a kernel can be told to), a buffer of direct I/O
/// that changes in flight, and blocks that were changed on the medium of another disk.
fn three_causes() -> Result<()> {
    let _quiet = QuietConsole::new()?;
    let unstable = host::kernel_version() < (6, 11);
    let medium = Medium::changed()?;
    let scratch =
        Scratch::with_stable_writes(Fs::Ext4, Disk::pi()?, !unstable)?.with_shared_buffers();
    let _slow = SlowDisk::new(scratch.disk(), Duration::from_millis(2), 4)?;
    let folders = [scratch.path().join("cached"), scratch.path().join("direct")];
    for folder in &folders {
        fs::create_dir(folder)?;
    }
    let agent = Agent::start(["-q", "--ring-size=64MiB"])?;
    let failed = TracefsInstance::recording_integrity_completions()?;
    let mut cached = Wac::ready(&folders[0], "a")?;
    let mut direct = Wac::ready(&folders[1], "g")?;
    cached.go()?;
    direct.go()?;
    let (ino, buffer) = (cached.file()?.ino(), direct.pid());
    for _ in 0..EACH {
        medium.read()?;
        std::thread::sleep(Duration::from_millis(100));
    }
    failed.await_hits(10 * EACH)?;
    cached.stop()?;
    direct.stop()?;
    let recording = agent.stop()?;
    medium.mend()?;

    let judged = judged(&recording)?;
    let on_medium = |error: &IntegrityError| error.device.as_deref() == Some(&medium.disk.name);
    let of = |wanted: &dyn Fn(&IntegrityError) -> bool| -> Vec<_> {
        judged.iter().filter(|(error, _)| wanted(error)).copied().collect()
    };
    mostly(&of(&on_medium), Cause::NoRewriteSeen, 90)?;
    let of_buffer = |error: &IntegrityError| !on_medium(error) && error.pid == Some(buffer);
    mostly(&of(&of_buffer), Cause::DirectIoBuffer, 90)?;
    // Blocks of both files may be neighbours and share a request, which fails as a whole: whose fault
    // that was nobody can say.
    let of_file = |error: &IntegrityError| {
        !on_medium(error)
            && !error.pages.is_empty()
            && error.pages.iter().all(|page| page.ino == Some(ino))
    };
    let rewritten = of(&of_file);
    if unstable {
        mostly(&rewritten, Cause::PageRewrittenInFlight, 90)?;
    } else {
        ensure!(rewritten.is_empty(), "pages that are kept stable failed: {rewritten:#?}");
    }
    Ok(())
}
