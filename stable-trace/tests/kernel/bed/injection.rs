//! Integrity errors on demand, from `scsi_debug`: each genuine to all that stands above the disk.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::disk::Disk;

/// How long the disk may take to finish what it was sent.
const IDLE: Duration = Duration::from_secs(30);

const DRIVER: &str = "/sys/bus/pseudo/drivers/scsi_debug";

/// Commands fail their guard check until this is dropped.
#[derive(Debug)]
pub struct Injection(());

impl Injection {
    /// The device finds a wrong guard tag (sense b/10/1) in every read and write: bit 0x20 of `opts`
    /// (`drivers/scsi/scsi_debug.c`).
    pub fn into_every_command() -> Result<Self> {
        // First, so that half an injection is undone too.
        let injection = Self(());
        set("opts", "0x20")?;
        set("every_nth", "-1")?;
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

/// How long the SCSI debug disk takes for a command until this is dropped. With a short queue,
/// writeback lasts and many tasks wait.
#[derive(Debug)]
pub struct SlowDisk {
    delay: String,
    /// The attribute's file, and what was in it.
    depth: (PathBuf, String),
}

/// How many commands the kernel sends to the disk at a time. The driver's own `max_queue` does not
/// do: what comes beyond it fails, since 5.19 with an error that nobody tries again
/// (`device_qfull_result`, `drivers/scsi/scsi_debug.c`).
const DEPTH: &str = "device/queue_depth";

impl SlowDisk {
    /// `delay` a command, and `queue_depth` of them at a time.
    pub fn new(disk: &Disk, delay: Duration, queue_depth: u32) -> Result<Self> {
        let path = Path::new("/sys/block").join(&disk.name).join(DEPTH);
        let before =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let depth = (path.clone(), before.trim().to_owned());
        let slow = Self { delay: get("delay")?, depth };
        write_depth(&path, &queue_depth.to_string())?;
        set_when_idle("ndelay", &delay.as_nanos().to_string())?;
        Ok(slow)
    }
}

fn write_depth(path: &Path, depth: &str) -> Result<()> {
    fs::write(path, depth).with_context(|| format!("cannot write {depth} to {}", path.display()))
}

impl Drop for SlowDisk {
    fn drop(&mut self) {
        // A delay in jiffies takes the one in ns back; -9999 stands for the latter.
        let delay = if self.delay == "-9999" { "1" } else { &self.delay };
        let (path, depth) = &self.depth;
        let undone = [set_when_idle("delay", delay), write_depth(path, depth)];
        for error in undone.into_iter().filter_map(Result::err) {
            eprintln!("{error:#}");
        }
    }
}

/// The driver changes its delay only while no command is under way.
fn set_when_idle(name: &str, value: &str) -> Result<()> {
    let deadline = Instant::now() + IDLE;
    loop {
        match fs::write(format!("{DRIVER}/{name}"), value) {
            Err(error) if error.kind() == ErrorKind::ResourceBusy && Instant::now() < deadline => {
                rustix::fs::sync();
            }
            done => {
                return done
                    .with_context(|| format!("cannot write {value} to scsi_debug's {name}"));
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
