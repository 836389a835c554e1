//! Integrity errors on demand, from `scsi_debug`: each genuine to all that stands above the disk.

use std::fs;

use anyhow::{Context as _, Result};

const DRIVER: &str = "/sys/bus/pseudo/drivers/scsi_debug";

/// Who finds the error (bits of `opts` of `drivers/scsi/scsi_debug.c`).
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

/// How long the SCSI debug disk takes for a command until this is dropped. With `max_queue` small,
/// writeback lasts and many tasks wait.
#[derive(Debug)]
pub struct SlowDisk {
    delay: String,
    max_queue: String,
}

impl SlowDisk {
    /// `ndelay` in ns, and how many commands it takes at a time.
    pub fn new(ndelay: u32, max_queue: u32) -> Result<Self> {
        let before = Self { delay: get("delay")?, max_queue: get("max_queue")? };
        set("max_queue", &max_queue.to_string())?;
        set("ndelay", &ndelay.to_string())?;
        Ok(before)
    }
}

impl Drop for SlowDisk {
    fn drop(&mut self) {
        // A delay in jiffies takes the one in ns back; -9999 stands for the latter.
        let delay = if self.delay == "-9999" { "1" } else { &self.delay };
        for (name, value) in [("delay", delay), ("max_queue", &self.max_queue)] {
            if let Err(error) = set(name, value) {
                eprintln!("{error:#}");
            }
        }
    }
}

fn set(name: &str, value: &str) -> Result<()> {
    fs::write(format!("{DRIVER}/{name}"), value)
        .with_context(|| format!("cannot write {value} to scsi_debug's {name}"))
}

fn get(name: &str) -> Result<String> {
    let text = fs::read_to_string(format!("{DRIVER}/{name}"))
        .with_context(|| format!("cannot read scsi_debug's {name}"))?;
    Ok(text.trim().to_owned())
}
