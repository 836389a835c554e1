//! `--device` covers what a device is made of, and what is made of it.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use crate::harness::corrupt_blocks::corrupt_byte_behind_paths;
use crate::harness::device_mapper::{DmCrypt, Mapping};
use crate::harness::direct_io::DirectFile;
use crate::harness::integrity_failures::{agent_agrees_with_tracefs, integrity, reported};
use crate::harness::{
    Agent, Disk, Fs, Injection, NvmePaths, Recording, Requirement, Scratch, Test, TracefsInstance,
    Wac, host,
};

/// Stalls that a test waits for.
const SOME: u64 = 100;

/// Bytes of a command.
const BLOCK: usize = 4096;

pub(crate) fn tests() -> Vec<Test> {
    let dm = [Requirement::Program("dmsetup")];
    vec![
        Test::guest("a_mapped_device_covers_the_disk_below", mapped_covers_disk)
            .requires_traced_pi_disk()
            .requires_all(dm),
        Test::guest("a_disk_covers_what_is_mapped_onto_it", disk_covers_mapped)
            .requires_traced_pi_disk()
            .requires(Requirement::PlainDisk)
            .requires_all(dm),
        Test::guest("a_disk_covers_the_encrypted_device_above", disk_covers_encrypted)
            .requires_traced_loop_device()
            .requires(Requirement::Program("cryptsetup")),
        Test::guest("a_multipath_device_covers_its_paths", multipath_covers_paths).requires_all([
            Requirement::Agent,
            Requirement::Tracefs,
            Requirement::NvmePi,
        ]),
    ]
}

/// An error that the disk below detects is not hidden, and is the disk's.
fn mapped_covers_disk() -> Result<()> {
    let disk = Disk::pi()?;
    let linear = Mapping::linear(&disk)?;
    let name = linear.name();
    let agent = Agent::start(["-q", "--device", name, "--fail-on=integrity"])?;
    let completions = TracefsInstance::recording_integrity_completions()?;
    let failing = Injection::into_every_command()?;
    let write = DirectFile::open(&linear.path())?.write(0, &[0; BLOCK]);
    drop(failing);
    ensure!(write.is_err(), "the write has not failed");
    let recording = agent.stop()?;
    let count = agent_agrees_with_tracefs(&recording, &completions, &disk)?;
    ensure!(count == 1, "{count} errors");
    let status = recording.status.code();
    ensure!(status == Some(4), "exit status {status:?}: {}", recording.errors);
    Ok(())
}

/// Runs a workload on a file system under an agent with a filter, until `SOME` waits are known.
fn under_filter(scratch: &Scratch, filter: &str) -> Result<Recording> {
    let mut wac = Wac::spawn_paused_with(16, scratch.path(), "a")?;
    let waits = TracefsInstance::recording_process(&host::wait_event(), wac.pid())?;
    let agent = Agent::start(["--min-latency=0", "--device", filter])?;
    wac.start()?;
    waits.await_hits(SOME)?;
    wac.stop()?;
    agent.stop()
}

/// Every stall is on the device of the file system.
fn selected(scratch: &Scratch, filter: &str) -> Result<()> {
    let recording = under_filter(scratch, filter)?;
    let device = scratch.disk().name.as_str();
    let mut count = 0;
    for stall in recording.stalls() {
        count += 1;
        let path = stall.path.as_deref().map(Path::new);
        ensure!(
            stall.device.as_deref() == Some(device)
                && stall.fs.as_deref() == Some("ext4")
                && path.is_none_or(|path| path.starts_with(scratch.path())),
            "--device {filter}: {stall:?}"
        );
    }
    ensure!(count > SOME / 2, "--device {filter}: {count} stalls");
    Ok(())
}

/// No stall is counted, and the end of the run says what was left out.
fn left_out(scratch: &Scratch, filter: &str) -> Result<()> {
    let recording = under_filter(scratch, filter)?;
    let summary = recording.summary()?;
    let filtered = summary.waits_filtered.as_ref().context("nothing about the filter")?;
    ensure!(
        summary.stalls_total == 0 && filtered.devices > SOME / 2,
        "--device {filter}: {summary:#?}"
    );
    Ok(())
}

fn disk_covers_mapped() -> Result<()> {
    let (disk, other) = (Disk::pi()?, Disk::plain()?);
    let linear = Mapping::linear(&disk)?;
    let name = linear.name();
    {
        let scratch = Scratch::with_stable_writes(Fs::Ext4, Disk::named(name)?, true)?;
        for filter in [disk.name.as_str(), name, &linear.path().to_string_lossy()] {
            selected(&scratch, filter)?;
        }
        left_out(&scratch, &other.name)?;
    }
    // The mapping cannot be removed while it is mounted.
    drop(linear);
    Ok(())
}

fn disk_covers_encrypted() -> Result<()> {
    let (disk, other) = (Disk::loop_device(64)?, Disk::loop_device(8)?);
    let encrypted = DmCrypt::over(&disk)?;
    {
        let mapped = Disk::named(encrypted.name())?;
        let scratch = Scratch::with_stable_writes(Fs::Ext4, mapped, true)?;
        selected(&scratch, &disk.name)?;
        selected(&scratch, encrypted.name())?;
        left_out(&scratch, &other.name)?;
    }
    drop(encrypted);
    Ok(())
}

/// Each failed read of a path is one error of the multipath device.
fn multipath_covers_paths() -> Result<()> {
    const CORRUPT: [usize; 4] = [3, 5, 6, 9];
    let paths = NvmePaths::connect()?;
    let name = paths.disk.name.as_str();
    let direct = DirectFile::open(&paths.disk.path)?;
    direct.write(0, &vec![0; 16 * BLOCK]).context("cannot write")?;
    for block in CORRUPT {
        corrupt_byte_behind_paths((block * BLOCK + 100) as u64)?;
    }
    let agent = Agent::start(["-q", "--device", name])?;
    let completions = TracefsInstance::recording_integrity_completions()?;
    for block in CORRUPT {
        let read = direct.read((block * BLOCK) as u64, BLOCK);
        ensure!(read.is_err(), "the read of corrupt block {block} succeeded");
    }
    let recording = agent.stop()?;

    let (count, lines) = (completions.count()?, completions.lines()?);
    ensure!(count == CORRUPT.len(), "tracefs has {lines:#?}");
    let sectors: Vec<_> =
        reported(&recording, &paths.disk).iter().map(|failure| failure.sector).collect();
    let all: Vec<_> = integrity(&recording).collect();
    ensure!(sectors == CORRUPT.map(|block| block as u64 * 8), "{all:#?}");
    ensure!(all.len() == count, "errors of other devices: {all:#?}");
    ensure!(recording.summary()?.integrity_errors_total == count as u64, "{lines:#?}");
    Ok(())
}
