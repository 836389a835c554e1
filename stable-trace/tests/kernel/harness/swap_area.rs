//! A slow swap area.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::disk::Disk;
use super::{program, wait_until};

/// A disk of its own (`null_blk`) that takes its time for each command, used as swap until this is dropped.
#[derive(Debug)]
pub(crate) struct SwapArea {
    pub(crate) disk: Disk,
    _disk: NullDisk,
}

/// The name of the disk. Older kernels number disks instead: the first one is the guest's.
const NAME: &str = "nullb1";

/// How long a command takes, in ns.
const DELAY_NS: &str = "5000000";

impl SwapArea {
    pub(crate) fn create() -> Result<Self> {
        let null = NullDisk::create()?;
        let path = Path::new("/dev").join(NAME);
        wait_until(|| Ok((!path.exists()).then(|| format!("no {}", path.display()))))?;
        let disk = Disk::named(NAME)?;
        program::run("mkswap", &[&path.to_string_lossy()])?;
        program::run("swapon", &[&path.to_string_lossy()])?;
        Ok(Self { disk, _disk: null })
    }
}

impl Drop for SwapArea {
    fn drop(&mut self) {
        if let Err(error) = program::run("swapoff", &[&self.disk.path.to_string_lossy()]) {
            eprintln!("{error:#}");
        }
    }
}

#[derive(Debug)]
struct NullDisk;

impl NullDisk {
    fn create() -> Result<Self> {
        let folder = Path::new("/sys/kernel/config/nullb").join(NAME);
        fs::create_dir(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let disk = Self;
        let settings = [
            ("size", "64"),
            ("memory_backed", "1"),
            // A timer completes commands.
            ("irqmode", "2"),
            ("completion_nsec", DELAY_NS),
            ("power", "1"),
        ];
        for (name, value) in settings {
            fs::write(folder.join(name), value)
                .with_context(|| format!("cannot set {name} of {NAME}"))?;
        }
        Ok(disk)
    }
}

impl Drop for NullDisk {
    fn drop(&mut self) {
        let folder = Path::new("/sys/kernel/config/nullb").join(NAME);
        if let Err(error) = fs::remove_dir(&folder) {
            eprintln!("cannot remove {}: {error}", folder.display());
        }
    }
}
