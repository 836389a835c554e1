//! Devices on top of others: one failure, one count, where it happened.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use stable_trace_analysis::event::{Check, Operation, Source};

use super::on_the_disk;
use crate::bed::direct::Direct;
use crate::bed::failures::{agree, integrity};
use crate::bed::mapped::{Integrity, Linear};
use crate::bed::{Agent, Disk, Injection, Need, Test, TracefsInstance};

/// Commands of each kind that fail on each device.
const EACH: u64 = 10;

/// Bytes of a command.
const BLOCK: usize = 4096;

/// Where dm-integrity's data is changed, far from its beginning, in bytes.
const CHANGED: u64 = 5 * BLOCK as u64;

pub fn tests() -> Vec<Test> {
    let methods = ["auto", "fentry", "kprobe", "tracepoint"].into_iter();
    methods
        .map(|method| {
            on_the_disk(&format!("once_in_every_stack_{method}"), move || every_stack(method))
                .needs(Need::Program("losetup"))
                .needs(Need::Program("dmsetup"))
                .needs(Need::Program("integritysetup"))
        })
        .collect()
}

/// A loop device and a linear mapping repeat what the disk below has failed; dm-integrity finds for
/// itself what was changed below it, with no device with protection information near.
fn every_stack(method: &str) -> Result<()> {
    let disk = Disk::pi()?;
    let (data, tags) = (Disk::looped(16)?, Disk::looped(16)?);
    let changed = changed_below(&data, &tags)?;
    let (looped, linear) = (Disk::loop_over(&disk, true)?, Linear::over(&disk)?);
    let agent = Agent::start(["-q", "--attach", method])?;
    let completions = TracefsInstance::recording_integrity_completions()?;
    fail(&looped.path)?;
    fail(linear.path())?;
    let reader = Direct::open(changed.path())?;
    let outcomes: Vec<_> = (0..8)
        .map(|n| reader.read(n * BLOCK as u64, BLOCK).err().and_then(|e| e.raw_os_error()))
        .collect();
    drop(reader);
    let recording = agent.stop()?;

    let mut expected = [None; 8];
    expected[5] = Some(84);
    ensure!(outcomes == expected, "dm-integrity's readers got {outcomes:?}");
    let count = agree(&recording, &completions, &disk)?;
    ensure!(count == 4 * EACH, "{count} on {}", disk.name);
    let total = recording.summary()?.integrity_errors_total;
    ensure!(total == count + 1, "{total} in all: {:#?}", recording.summary()?.integrity_errors);
    for error in integrity(&recording) {
        if error.device.as_deref() == Some(disk.name.as_str()) {
            ensure!(error.source == Source::Scsi, "{error:#?}");
            continue;
        }
        ensure!(error.device.as_deref() == Some(changed.name()), "{error:#?}");
        ensure!((error.check, error.source) == (Check::Unknown, Source::Block), "{error:#?}");
        let place = (error.op, error.sector, error.sectors);
        ensure!(place == (Operation::Read, CHANGED / 512, 8), "{error:#?}");
    }
    Ok(())
}

/// Reads and writes of a device fail on the disk below it.
fn fail(above: &Path) -> Result<()> {
    let direct = Direct::open(above)?;
    let _failing = Injection::with(Injection::DEVICE)?;
    for n in 0..EACH {
        let at = n * BLOCK as u64;
        let (read, written) = (direct.read(at, BLOCK), direct.write(at, &[3; BLOCK]));
        ensure!(read.is_err() && written.is_err(), "{read:?}, {written:?}");
    }
    Ok(())
}

/// dm-integrity over a device of which one byte was changed behind its back.
fn changed_below(data: &Disk, tags: &Disk) -> Result<Integrity> {
    let mapped = Integrity::format(data, tags)?;
    let direct = Direct::open(mapped.path())?;
    for n in 0..8 {
        direct.write(n * BLOCK as u64, &[5; BLOCK]).context("cannot write")?;
    }
    drop(direct);
    let mapped = mapped.reopened()?;
    OpenOptions::new().write(true).open(&data.path)?.write_all_at(b"!", CHANGED + 100)?;
    rustix::fs::sync();
    Ok(mapped)
}
