//! Integrity errors on demand, from `scsi_debug`: each genuine to all that stands above the disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::disk::Disk;

const DRIVER: &str = "/sys/bus/pseudo/drivers/scsi_debug";

/// Who finds the error (bits of `opts` in `drivers/scsi/scsi_debug.c`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// The device: sense b/10/1.
    Device,
    /// The host adapter: sense 5/10/1.
    Host,
}

/// Commands fail their guard check until this is dropped.
#[derive(Debug)]
pub struct Injection(());

impl Injection {
    /// Every read and write fails.
    pub fn into_every_command(check: Check) -> Result<Self> {
        Self::start(check, -1)
    }

    /// The nth, 2nth, 3nth of *all* commands fail, if they are reads or writes.
    pub fn into_every(nth: i32, check: Check) -> Result<Self> {
        Self::start(check, nth)
    }

    fn start(check: Check, nth: i32) -> Result<Self> {
        let options = match check {
            Check::Device => "0x20",
            Check::Host => "0x40",
        };
        // First, so that half an injection is undone too.
        let injection = Self(());
        set("opts", options)?;
        set("every_nth", &nth.to_string())?;
        Ok(injection)
    }
}

impl Drop for Injection {
    fn drop(&mut self) {
        for name in ["every_nth", "opts"] {
            if let Err(error) = set(name, "0") {
                eprintln!("{error:#}");
            }
        }
    }
}

/// The SCSI debug disk takes this long for a command, and few of them at a time, until this is
/// dropped: writeback lasts and many tasks wait.
#[derive(Debug)]
pub struct SlowDisk {
    queue_depth: (PathBuf, String),
}

impl SlowDisk {
    /// `delay` a command, and `queue_depth` of them at a time.
    pub fn new(disk: &Disk, delay: Duration, queue_depth: u32) -> Result<Self> {
        // Not scsi_debug's `max_queue`, which 6.12 and later refuse to change (EBUSY).
        let path = Path::new("/sys/block").join(&disk.name).join("device/queue_depth");
        let before =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let slow = Self { queue_depth: (path.clone(), before.trim().to_owned()) };
        fs::write(&path, queue_depth.to_string())
            .with_context(|| format!("cannot write {}", path.display()))?;
        set("ndelay", &delay.as_nanos().to_string())?;
        Ok(slow)
    }
}

impl Drop for SlowDisk {
    fn drop(&mut self) {
        // One jiffy, as loaded: it takes the delay in nanoseconds back.
        if let Err(error) = set("delay", "1") {
            eprintln!("{error:#}");
        }
        let (path, depth) = &self.queue_depth;
        if let Err(error) = fs::write(path, depth) {
            eprintln!("cannot write {depth} to {}: {error}", path.display());
        }
    }
}

fn set(name: &str, value: &str) -> Result<()> {
    fs::write(format!("{DRIVER}/{name}"), value)
        .with_context(|| format!("cannot write {value} to scsi_debug's {name}"))
}
