//! Requests that fail for a reason other than an integrity check are not counted.

use anyhow::{Context as _, Result, ensure};

use super::on_pi_disk;
use crate::harness::direct_io::DirectFile;
use crate::harness::integrity_failures::integrity;
use crate::harness::{Agent, Disk, Injection, Test, TracefsInstance, wait_until};

pub(crate) fn tests() -> Vec<Test> {
    vec![on_pi_disk("unrelated_errors_are_not_counted", unrelated_errors)]
}

/// The first sector with a medium error: `medium_error_start`, `drivers/scsi/scsi_debug.c`.
const BAD_SECTOR: u64 = 0x1234;

/// Injects a medium error, a transport error and a command timeout.
fn unrelated_errors() -> Result<()> {
    let disk = Disk::pi()?;
    let direct = DirectFile::open(&disk.path)?;
    let agent = Agent::start(["-q"])?;
    let failed = TracefsInstance::recording("block/block_rq_complete", "error != 0")?;
    let block = BAD_SECTOR / 8 * 4096;
    for opts in [Injection::MEDIUM, Injection::TRANSPORT] {
        let failing = Injection::with(opts)?;
        let read = direct.read(block, 4096);
        drop(failing);
        ensure!(read.is_err(), "opts {opts:#x}: the read succeeded");
    }
    time_out(&disk, &direct, block)?;
    let recording = agent.stop()?;

    let completions = failed.lines()?;
    ensure!(completions.len() >= 2, "tracefs has {completions:#?}");
    let failed_check = completions.iter().find(|line| line.contains("[-84]"));
    ensure!(failed_check.is_none(), "a failed check without an injection: {failed_check:?}");
    let reported = integrity(&recording).next();
    ensure!(reported.is_none(), "{reported:#?}");
    ensure!(recording.summary()?.integrity_errors_total == 0, "{:#?}", recording.summary()?);
    Ok(())
}

/// A read times out. The kernel aborts it and tests after each of its resets whether the disk
/// answers (`scsi_eh_tur`, `drivers/scsi/scsi_error.c`), by default for ten seconds each time.
fn time_out(disk: &Disk, direct: &DirectFile, block: u64) -> Result<()> {
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
        disk.set_attribute(name, &before.with_context(|| format!("the disk has no {name}"))?)?;
    }
    ensure!(read.is_err(), "a read that was never answered succeeded");
    wait_until(|| {
        // The error handler's commands were not answered either, so it set the disk offline
        // (`scsi_eh_offline_sdevs`, drivers/scsi/scsi_error.c).
        let state = disk.attribute(STATE).unwrap_or_default();
        if state == "offline" {
            disk.set_attribute(STATE, "running\n")?;
        }
        let read = direct.read(0, 4096);
        Ok(read.err().map(|error| format!("the disk is {state}: {error}")))
    })
}
