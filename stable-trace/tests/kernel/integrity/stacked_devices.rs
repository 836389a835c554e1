//! On stacked devices a failure is counted once, on the device that detects it.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use stable_trace_analysis::event::{Check, Operation, Source};

use super::on_pi_disk;
use crate::harness::corrupt_blocks::CorruptBlocks;
use crate::harness::device_mapper::{DmIntegrity, Mapping};
use crate::harness::direct_io::DirectFile;
use crate::harness::integrity_failures::{
    agent_agrees_with_tracefs, completed, integrity, reported,
};
use crate::harness::md_mirror::MdMirror;
use crate::harness::scsi_debug::AddedDisk;
use crate::harness::{Agent, Disk, Injection, Requirement, Test, TracefsInstance};

/// Failing commands of each kind on each device.
const EACH: u64 = 10;

/// Failing writes to a mirror.
const MIRROR_WRITES: u64 = 4;

/// Bytes of a command.
const BLOCK: usize = 4096;

/// Byte offset of the corrupt block of dm-integrity's data.
const CORRUPT: u64 = 5 * BLOCK as u64;

pub(crate) fn tests() -> Vec<Test> {
    let methods = ["auto", "fentry", "kprobe", "tracepoint"].into_iter();
    let mut tests: Vec<_> = methods
        .map(|method| {
            on_pi_disk(&format!("stacked_devices_count_a_failure_once_{method}"), move || {
                every_stack(method)
            })
            .requires_all(["losetup", "dmsetup", "integritysetup"].map(Requirement::Program))
        })
        .collect();
    let dmsetup = || Requirement::Program("dmsetup");
    tests.push(
        on_pi_disk("both_legs_of_a_mirror_count", || {
            let failed = mirror_legs(Mapping::mirror, Mapping::path)?;
            ensure!(failed == [MIRROR_WRITES; 2], "{failed:?} failures of {MIRROR_WRITES} writes");
            Ok(())
        })
        .requires(dmsetup()),
    );
    tests.push(on_pi_disk("both_legs_of_an_array_count", || {
        // The driver writes what failed again, sector by sector (`narrow_write_error`, drivers/md/raid1.c, 5.10 to 7.3).
        let failed =
            mirror_legs(|first, second| MdMirror::create([first, second]), |_| MdMirror::path())?;
        ensure!(failed.iter().all(|leg| *leg >= MIRROR_WRITES), "{failed:?} failures");
        Ok(())
    }));
    tests.push(
        on_pi_disk("a_bad_block_deep_in_a_read_is_one_error", deep_block)
            .requires_all([dmsetup(), Requirement::NvmePi]),
    );
    tests.push(
        on_pi_disk("a_bad_block_before_a_slow_one_is_one_error", before_slow_block)
            .requires_all([dmsetup(), Requirement::NvmePi]),
    );
    tests
}

/// Both disks of a mirror report an error of each write. They write the same pages. Returns the failures of each disk.
fn mirror_legs<M>(
    create: impl Fn(&Disk, &Disk) -> Result<M>,
    path: impl Fn(&M) -> PathBuf,
) -> Result<[u64; 2]> {
    let disk = Disk::pi()?;
    let other = AddedDisk::create()?;
    let agent = Agent::start(["-q"])?;
    let completions = TracefsInstance::recording_integrity_completions()?;
    let failing = Injection::with(Injection::DEVICE)?;
    for n in 0..MIRROR_WRITES {
        // After a failure a mirror writes to one leg only.
        let mirror = create(&disk, &other.disk)?;
        let direct = DirectFile::open(&path(&mirror))?;
        let written = direct.write(n * BLOCK as u64, &[3; BLOCK]);
        ensure!(written.is_err(), "write {n} has not failed");
    }
    drop(failing);
    let recording = agent.stop()?;

    let hits = completions.hits()?;
    let summary = recording.summary()?;
    ensure!(summary.integrity_errors_total == hits, "not {hits}: {:#?}", summary.integrity_errors);
    let mut counts = [0; 2];
    for (leg, count) in [&disk, &other.disk].into_iter().zip(&mut counts) {
        let failed = completed(&completions, leg)?;
        let errors = reported(&recording, leg);
        ensure!(errors == failed, "not {failed:?} on {}: {errors:?}", leg.name);
        *count = failed.len() as u64;
    }
    ensure!(hits == counts.iter().sum::<u64>(), "{hits} failures, of the legs {counts:?}");
    Ok(counts)
}

/// A read through a linear mapping has more pages than are looked at, and a bad block at its end.
fn deep_block() -> Result<()> {
    const READ: usize = 2 << 20;
    let corrupt = CorruptBlocks::create()?;
    let linear = Mapping::linear(&corrupt.disk)?;
    let direct = DirectFile::open(&linear.path())?;
    let agent = Agent::start(["-q"])?;
    let completions = TracefsInstance::recording_integrity_completions()?;
    let end = corrupt.disk.sectors()? * 512;
    for _ in 0..EACH {
        let read = direct.read(end - READ as u64, READ);
        ensure!(read.is_err(), "the read of a corrupt block succeeded");
    }
    let recording = agent.stop()?;
    corrupt.repair()?;

    let hits = completions.hits()?;
    ensure!(hits >= EACH, "{hits} failures of {EACH} reads");
    let summary = recording.summary()?;
    ensure!(summary.integrity_errors_total == hits, "not {hits}: {:#?}", summary.integrity_errors);
    Ok(())
}

/// The mapped device reports a failure when all parts of the read have ended, long after the disk.
fn before_slow_block() -> Result<()> {
    let corrupt = CorruptBlocks::create()?;
    let slow = Disk::loop_device(16)?;
    let mapping = Mapping::last_block_before_slow(&corrupt.disk, &slow, 2_000)?;
    let direct = DirectFile::open(&mapping.path())?;
    let agent = Agent::start(["-q"])?;
    let completions = TracefsInstance::recording_integrity_completions()?;
    ensure!(direct.read(0, 2 * BLOCK).is_err(), "the read of a corrupt block succeeded");
    let recording = agent.stop()?;
    corrupt.repair()?;

    let hits = completions.hits()?;
    let summary = recording.summary()?;
    ensure!(
        (hits, summary.integrity_errors_total) == (1, 1),
        "{hits} failures: {:#?}",
        summary.integrity_errors
    );
    Ok(())
}

/// A loop device and a linear mapping pass on failures of the disk below; dm-integrity itself
/// detects corruption below it, without a disk with protection information.
fn every_stack(method: &str) -> Result<()> {
    let disk = Disk::pi()?;
    let (data, tags) = (Disk::loop_device(16)?, Disk::loop_device(16)?);
    let corrupt = corrupt_dm_integrity(&data, &tags)?;
    let (loop_device, linear) = (Disk::loop_over(&disk, true)?, Mapping::linear(&disk)?);
    let agent = Agent::start(["-q", "--attach", method])?;
    let completions = TracefsInstance::recording_integrity_completions()?;
    fail(&loop_device.path)?;
    fail(&linear.path())?;
    let reader = DirectFile::open(corrupt.path())?;
    let outcomes: Vec<_> = (0..8).map(|n| reader.read_errno(n * BLOCK as u64, BLOCK)).collect();
    drop(reader);
    let recording = agent.stop()?;

    let mut expected = [None; 8];
    expected[5] = Some(84);
    ensure!(outcomes == expected, "reads of dm-integrity end with {outcomes:?}");
    let count = agent_agrees_with_tracefs(&recording, &completions, &disk)?;
    ensure!(count == 4 * EACH, "{count} on {}", disk.name);
    let total = recording.summary()?.integrity_errors_total;
    ensure!(total == count + 1, "{total} in all: {:#?}", recording.summary()?.integrity_errors);
    for error in integrity(&recording) {
        if error.device.as_deref() == Some(disk.name.as_str()) {
            ensure!(error.source == Source::Scsi, "{error:#?}");
            continue;
        }
        ensure!(error.device.as_deref() == Some(corrupt.name()), "{error:#?}");
        ensure!((error.check, error.source) == (Check::Unknown, Source::Block), "{error:#?}");
        let location = (error.op, error.sector, error.sectors);
        ensure!(location == (Operation::Read, Some(CORRUPT / 512), 8), "{error:#?}");
    }
    Ok(())
}

/// Fails reads and writes of a device on the disk below it.
fn fail(above: &Path) -> Result<()> {
    let direct = DirectFile::open(above)?;
    let _failing = Injection::with(Injection::DEVICE)?;
    for n in 0..EACH {
        let at = n * BLOCK as u64;
        let (read, written) = (direct.read(at, BLOCK), direct.write(at, &[3; BLOCK]));
        ensure!(read.is_err() && written.is_err(), "{read:?}, {written:?}");
    }
    Ok(())
}

/// Creates dm-integrity over a device and corrupts one byte of that device.
fn corrupt_dm_integrity(data: &Disk, tags: &Disk) -> Result<DmIntegrity> {
    let mapped = DmIntegrity::format(data, tags)?;
    let direct = DirectFile::open(mapped.path())?;
    for n in 0..8 {
        direct.write(n * BLOCK as u64, &[5; BLOCK]).context("cannot write")?;
    }
    drop(direct);
    let mapped = mapped.reopened()?;
    OpenOptions::new().write(true).open(&data.path)?.write_all_at(b"!", CORRUPT + 100)?;
    rustix::fs::sync();
    Ok(mapped)
}
