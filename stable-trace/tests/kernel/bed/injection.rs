//! Integrity errors on demand, from `scsi_debug`: each genuine to all that stands above the disk.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::disk::Disk;

/// How long the disk may take to finish what it was sent.
const IDLE: Duration = Duration::from_secs(30);

const DRIVER: &str = "/sys/bus/pseudo/drivers/scsi_debug";

/// Commands fail until this is dropped.
#[derive(Debug)]
pub struct Injection(());

impl Injection {
    /// The first sectors from 0x1234 on have a medium error: bits of `opts`
    /// (`drivers/scsi/scsi_debug.c`), here and below.
    pub const MEDIUM: u32 = 0x2;
    /// Commands are never answered.
    pub const TIMEOUT: u32 = 0x4;
    /// Commands are not acknowledged by the transport.
    pub const TRANSPORT: u32 = 0x10;
    /// The device finds a wrong guard tag (sense b/10/1).
    pub const DEVICE: u32 = 0x20;
    /// The host adapter finds one (sense 5/10/1).
    pub const HOST: u32 = 0x40;

    /// The device finds a wrong guard tag in every read and write.
    pub fn into_every_command() -> Result<Self> {
        Self::with(Self::DEVICE)
    }

    /// Every command fails in the way of these bits.
    pub fn with(opts: u32) -> Result<Self> {
        // First, so that half an injection is undone too.
        let injection = Self(());
        set("opts", &format!("{opts:#x}"))?;
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

/// Errors for the next so many commands of one kind, where the driver offers that: from 6.7 on, below
/// its folder in debugfs.
#[derive(Debug)]
pub struct CommandErrors {
    file: PathBuf,
    /// Where debugfs is mounted while this lives.
    debugfs: tempfile::TempDir,
}

impl CommandErrors {
    /// Nothing where the driver does not offer it.
    pub fn of(disk: &Disk) -> Result<Option<Self>> {
        let link = Path::new("/sys/block").join(&disk.name).join("device");
        let address =
            fs::read_link(&link).with_context(|| format!("cannot read {}", link.display()))?;
        let address = address.file_name().context("a disk without an address")?;
        let debugfs = tempfile::tempdir().context("no folder for debugfs")?;
        mount("debugfs", debugfs.path(), "debugfs", MountFlags::empty(), None)
            .context("cannot mount debugfs")?;
        let file = debugfs.path().join("scsi_debug").join(address).join("error");
        let errors = Self { file, debugfs };
        Ok(errors.file.exists().then_some(errors))
    }

    /// The next `count` commands with this operation code end in a check condition with this sense
    /// key, code and qualifier (`sdebug_error_write`, `drivers/scsi/scsi_debug.c`).
    pub fn inject(&self, count: usize, opcode: u8, key: u8, asc: u8, ascq: u8) -> Result<()> {
        let line = format!("2 -{count} {opcode:#x} 0 0 2 {key:#x} {asc:#x} {ascq:#x}");
        fs::write(&self.file, &line).with_context(|| format!("cannot inject {line:?}"))
    }
}

impl Drop for CommandErrors {
    fn drop(&mut self) {
        if let Err(error) = unmount(self.debugfs.path(), UnmountFlags::DETACH) {
            eprintln!("cannot unmount debugfs: {error}");
        }
    }
}

/// How long the SCSI debug disk takes for a command until this is dropped. With a short queue,
/// writeback lasts and many tasks wait.
#[derive(Debug)]
pub struct SlowDisk {
    delay: String,
    /// Attributes' files, and what was in them.
    queue: Vec<(PathBuf, String)>,
}

/// How many commands the kernel sends to the disk at a time. The driver's own `max_queue` does not
/// do: what comes beyond it fails, since 5.19 with an error that nobody tries again
/// (`device_qfull_result`, `drivers/scsi/scsi_debug.c`).
const DEPTH: &str = "device/queue_depth";

/// What the throttle of buffered writes takes for a slow disk, in µs. Off: it would let one page
/// after the other to this one, and everybody wait for that (`block/blk-wbt.c`).
const THROTTLE: &str = "queue/wbt_lat_usec";

impl SlowDisk {
    /// `delay` a command, and `queue_depth` of them at a time.
    pub fn new(disk: &Disk, delay: Duration, queue_depth: u32) -> Result<Self> {
        let mut slow = Self { delay: get("delay")?, queue: Vec::new() };
        for (attribute, value) in [(DEPTH, queue_depth.to_string()), (THROTTLE, "0".to_owned())] {
            let path = Path::new("/sys/block").join(&disk.name).join(attribute);
            let before = fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            write_attribute(&path, &value)?;
            slow.queue.push((path, before.trim().to_owned()));
        }
        set_when_idle("ndelay", &delay.as_nanos().to_string())?;
        Ok(slow)
    }
}

fn write_attribute(path: &Path, value: &str) -> Result<()> {
    fs::write(path, value).with_context(|| format!("cannot write {value} to {}", path.display()))
}

impl Drop for SlowDisk {
    fn drop(&mut self) {
        // A delay in jiffies takes the one in ns back; -9999 stands for the latter.
        let delay = if self.delay == "-9999" { "1" } else { &self.delay };
        let undone = self.queue.iter().map(|(path, before)| write_attribute(path, before));
        for error in
            [set_when_idle("delay", delay)].into_iter().chain(undone).filter_map(Result::err)
        {
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
