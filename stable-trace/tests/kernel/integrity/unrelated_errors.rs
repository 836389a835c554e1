//! Requests that fail for another reason: none of ours.

use anyhow::{Context as _, Result, ensure};

use super::on_the_disk;
use crate::harness::direct_io::DirectFile;
use crate::harness::integrity_failures::integrity;
use crate::harness::{Agent, Disk, Injection, Test, TracefsInstance};

pub fn tests() -> Vec<Test> {
    vec![on_the_disk("other_errors_are_not_counted", other_errors)]
}

/// The first sector that a bad medium has, and how many: `medium_error_start` and
/// `medium_error_count`, `drivers/scsi/scsi_debug.c`.
const BAD_SECTOR: u64 = 0x1234;

/// A medium error, a transport error and a command that is never answered.
fn other_errors() -> Result<()> {
    let disk = Disk::pi()?;
    let direct = DirectFile::open(&disk.path)?;
    let agent = Agent::start(["-q"])?;
    let failed = TracefsInstance::recording("block/block_rq_complete", "error != 0")?;
    let block = BAD_SECTOR / 8 * 4096;
    for opts in [Injection::MEDIUM, Injection::TRANSPORT] {
        let failing = Injection::with(opts)?;
        let read = direct.read(block, 4096);
        drop(failing);
        ensure!(read.is_err(), "opts {opts:#x}: the read did well");
    }
    never_answered(&disk, &direct, block)?;
    let recording = agent.stop()?;

    let completions = failed.lines()?;
    ensure!(completions.len() >= 2, "tracefs has {completions:#?}");
    let ours = completions.iter().find(|line| line.contains("[-84]"));
    ensure!(ours.is_none(), "an integrity error that nobody asked for: {ours:?}");
    let told = integrity(&recording).next();
    ensure!(told.is_none(), "{told:#?}");
    ensure!(recording.summary()?.integrity_errors_total == 0, "{:#?}", recording.summary()?);
    Ok(())
}

/// The kernel aborts the command when its time is up, and asks the disk in vain whether it is there,
/// after each of the resets that it tries (`scsi_eh_tur`, `drivers/scsi/scsi_error.c`): for ten seconds
/// each time, unless it is told otherwise.
fn never_answered(disk: &Disk, direct: &DirectFile, block: u64) -> Result<()> {
    const TIMEOUTS: [&str; 2] = ["device/timeout", "device/eh_timeout"];
    const STATE: &str = "device/state";
    let before = TIMEOUTS.map(|name| disk.attribute(name));
    for name in TIMEOUTS {
        disk.set_attribute(name, "1")?;
    }
    let failing = Injection::with(Injection::TIMEOUT)?;
    let read = direct.read(block, 4096);
    drop(failing);
    for (name, before) in TIMEOUTS.iter().zip(before) {
        disk.set_attribute(name, &before.with_context(|| format!("no {name}"))?)?;
    }
    ensure!(read.is_err(), "a read that was never answered did well");
    crate::harness::wait_until(|| {
        // The error handler's own commands were not answered either, so it gave the disk up
        // (`scsi_eh_offline_sdevs`, drivers/scsi/scsi_error.c).
        let state = disk.attribute(STATE).unwrap_or_default();
        if state == "offline" {
            disk.set_attribute(STATE, "running\n")?;
        }
        let sound = direct.read(0, 4096);
        Ok(sound.err().map(|error| format!("the disk is {state}: {error}")))
    })
}
