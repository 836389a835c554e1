//! Devices on top of others: one failure, one count, where it happened.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;

use anyhow::{Context as _, Result, ensure};
use stable_trace::event::{Check, Operation, Source};

use super::on_the_disk;
use crate::bed::direct::Direct;
use crate::bed::failures::{agree, integrity};
use crate::bed::mapped::{Integrity, Linear};
use crate::bed::{Agent, Disk, Injection, Need, Test, TracefsInstance};

/// Commands that fail.
const EACH: u64 = 10;

/// Bytes of a command.
const BLOCK: usize = 4096;

pub fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for method in ["auto", "fentry", "kprobe", "tracepoint"] {
        tests.push(
            on_the_disk(&format!("a_loop_device_repeats_{method}"), move || loop_device(method))
                .needs(Need::Program("losetup")),
        );
        tests.push(
            on_the_disk(&format!("a_linear_mapping_repeats_{method}"), move || linear(method))
                .needs(Need::Program("dmsetup")),
        );
        tests.push(
            Test::guest(format!("integrity::dm_integrity_{method}"), move || dm_integrity(method))
                .needs(Need::Agent)
                .needs(Need::PlainDisk)
                .needs(Need::Program("integritysetup")),
        );
    }
    tests
}

/// Commands to a device above the disk fail below; the disk alone has failed.
fn repeats(method: &str, above: &std::path::Path, disk: &Disk) -> Result<()> {
    let direct = Direct::open(above)?;
    let agent = Agent::start(["-q", "--attach", method])?;
    let completions = TracefsInstance::recording_integrity_completions()?;
    let failing = Injection::with(Injection::DEVICE)?;
    for n in 0..EACH {
        let at = n * BLOCK as u64;
        let (read, written) = (direct.read(at, BLOCK), direct.write(at, &[3; BLOCK]));
        ensure!(read.is_err() && written.is_err(), "{read:?}, {written:?}");
    }
    drop(failing);
    let recording = agent.stop()?;

    let count = agree(&recording, &completions, disk)?;
    let total = recording.summary()?.integrity_errors_total;
    ensure!(count == 2 * EACH && total == count, "{count} on {}, {total} in all", disk.name);
    let strange = integrity(&recording).find(|error| error.source != Source::Scsi);
    ensure!(strange.is_none(), "{strange:#?}");
    Ok(())
}

fn loop_device(method: &str) -> Result<()> {
    let disk = Disk::pi()?;
    let above = Disk::loop_over(&disk, true)?;
    repeats(method, &above.path, &disk)
}

fn linear(method: &str) -> Result<()> {
    let disk = Disk::pi()?;
    let above = Linear::over(&disk)?;
    repeats(method, above.path(), &disk)
}

/// One sector is changed below dm-integrity, which finds it when it is read: no device with
/// protection information is near.
fn dm_integrity(method: &str) -> Result<()> {
    /// Of the data device, far from its beginning.
    const CHANGED: u64 = 5 * BLOCK as u64;
    let below = Disk::looped(16)?;
    let tags = Disk::looped(16)?;
    let mapped = Integrity::format(&below, &tags)?;
    let direct = Direct::open(mapped.path())?;
    for n in 0..8 {
        direct.write(n * BLOCK as u64, &[5; BLOCK]).context("cannot write")?;
    }
    drop(direct);
    let mapped = mapped.reopened()?;
    OpenOptions::new().write(true).open(&below.path)?.write_all_at(b"!", CHANGED + 100)?;
    rustix::fs::sync();
    let direct = Direct::open(mapped.path())?;
    let agent = Agent::start(["-q", "--attach", method])?;
    let outcomes: Vec<_> = (0..8)
        .map(|n| direct.read(n * BLOCK as u64, BLOCK).err().and_then(|e| e.raw_os_error()))
        .collect();
    drop(direct);
    let recording = agent.stop()?;

    let mut expected = [None; 8];
    expected[5] = Some(84);
    ensure!(outcomes == expected, "the readers got {outcomes:?}");
    let errors: Vec<_> = integrity(&recording).collect();
    ensure!(errors.len() == 1 && recording.summary()?.integrity_errors_total == 1, "{errors:#?}");
    let error = errors[0];
    ensure!(error.device.as_deref() == Some(mapped.name()), "{error:#?}");
    ensure!((error.check, error.source) == (Check::Unknown, Source::Block), "{error:#?}");
    let place = (error.op, error.sector, error.sectors);
    ensure!(place == (Operation::Read, CHANGED / 512, 8), "{error:#?}");
    Ok(())
}
