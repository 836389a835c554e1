//! Who submitted what failed.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::fs::{Advice, fadvise};
use stable_trace_analysis::event::Operation;

use super::on_pi_disk;
use crate::harness::direct_io::DirectFile;
use crate::harness::disk_setting::DiskSetting;
use crate::harness::integrity_failures::integrity;
use crate::harness::partition::Partition;
use crate::harness::{
    Agent, Disk, Fs, Injection, Requirement, Scratch, SlowDisk, Test, TracefsInstance,
};

/// Bytes of a command.
const BLOCK: usize = 4096;

pub(crate) fn tests() -> Vec<Test> {
    let merged = on_pi_disk("of_a_merged_request_are_several", merged);
    let files = Fs::ALL.into_iter().filter(|fs| *fs != Fs::Btrfs).map(|fs| {
        on_pi_disk(&format!("of_files_of_{fs}_on_a_partition_are_named"), move || on(fs))
            .requires(Requirement::Program("addpart"))
    });
    files.chain([merged]).collect()
}

/// One error of each way to read and to write a file. XFS of 7.x makes and checks the protection information
/// itself.
fn on(fs: Fs) -> Result<()> {
    let disk = Disk::pi()?;
    let partition = Partition::of(&disk, 1, 2048, disk.sectors()? - 2048)?;
    let scratch = Scratch::new(fs, Disk::named(&partition.name)?)?;
    let path = scratch.path().join("file");
    fs::write(&path, vec![1; 4 * BLOCK])?;
    let file = OpenOptions::new().read(true).write(true).open(&path)?;
    file.sync_all()?;
    let direct = DirectFile::open(&path)?;
    let agent = Agent::start(["-q"])?;
    let failed = TracefsInstance::recording_integrity_completions()?;
    let forgotten = || fadvise(&file, 0, None, Advice::DontNeed);
    let failing = || Injection::with(Injection::DEVICE);

    let mut expected = Vec::new();
    let mut fails = |op: Operation, call: &dyn Fn() -> std::io::Result<()>| -> Result<()> {
        let injected = failing()?;
        let before = failed.hits()?;
        let done = call();
        drop(injected);
        let errors = failed.hits()? - before;
        ensure!(done.is_err() && errors > 0, "{op:?} got {done:?} after {errors} errors");
        expected.extend(std::iter::repeat_n(op, usize::try_from(errors)?));
        Ok(())
    };
    fails(Operation::Write, &|| direct.write(0, &[2; BLOCK]))?;
    fails(Operation::Read, &|| direct.read(BLOCK as u64, BLOCK).map(drop))?;
    forgotten()?;
    fails(Operation::Read, &|| file.read_exact_at(&mut [0; BLOCK], 2 * BLOCK as u64))?;
    fails(Operation::Write, &|| {
        file.write_all_at(&[3; BLOCK], 3 * BLOCK as u64)?;
        file.sync_data()
    })?;
    let recording = agent.stop()?;

    let errors: Vec<_> = integrity(&recording).collect();
    let ops: Vec<_> = errors.iter().map(|error| error.op).collect();
    ensure!(ops == expected, "{ops:?}, not {expected:?}");
    let ino = file.metadata()?.ino();
    let unexpected = errors.iter().find(|error| {
        let of_file = error.pages.iter().all(|page| page.ino.is_none_or(|of| of == ino));
        // Metadata is written by workers of the file system.
        of_file && error.pid != Some(std::process::id())
    });
    ensure!(unexpected.is_none(), "not of this process: {unexpected:#?}");
    ensure!(errors.iter().all(|error| error.began_ns_before.is_some()), "{errors:#?}");
    Ok(())
}

/// Writes of two processes, which the scheduler merges while a third one keeps the disk busy.
fn merged() -> Result<()> {
    let disk = Disk::pi()?;
    let _scheduler = DiskSetting::deadline_scheduler(&disk)?;
    let _slow = SlowDisk::new(&disk, Duration::from_millis(900), 1)?;
    let agent = Agent::start(["-q"])?;
    let dev = disk.dev()?;
    let (major, minor) = dev.split_once(':').context("no device number")?;
    // A kernel's `dev_t` (`MKDEV`, include/linux/kdev_t.h).
    let filter = format!("dev == {}", major.parse::<u32>()? << 20 | minor.parse::<u32>()?);
    let of = |event: &str| TracefsInstance::recording(&format!("block/{event}"), &filter);
    let (issued, inserted, merged) =
        (of("block_rq_issue")?, of("block_rq_insert")?, of("block_bio_backmerge")?);
    let failing = Injection::with(Injection::DEVICE)?;
    let write = |block: u32| {
        let output = format!("of={}", disk.path.display());
        let (seek, size) = (format!("seek={block}"), format!("bs={BLOCK}"));
        let mut command = Command::new("dd");
        command.args(["if=/dev/zero", &output, "count=1", &size, &seek, "oflag=direct"]);
        command.stderr(Stdio::null()).spawn()
    };
    let mut writers = vec![write(100)?];
    issued.await_hits(1)?;
    let before = inserted.hits()?;
    writers.push(write(8)?);
    inserted.await_hits(before + 1)?;
    writers.push(write(9)?);
    merged.await_hits(1)?;
    let pids: Vec<_> = writers.iter().map(Child::id).collect();
    for writer in &mut writers {
        ensure!(!writer.wait()?.success(), "a write has not failed");
    }
    drop(failing);
    let recording = agent.stop()?;

    let errors: Vec<_> = integrity(&recording).collect();
    ensure!(errors.len() == 2, "{errors:#?}");
    let (alone, merged) = (errors[0], errors[1]);
    ensure!(alone.pid == Some(pids[0]) && alone.sectors == 8, "{alone:#?}");
    ensure!(merged.sector == Some(64) && merged.sectors == 16, "{merged:#?}");
    ensure!(merged.pid.is_none() && merged.comm.as_deref() == Some("several"), "{merged:#?}");
    Ok(())
}
