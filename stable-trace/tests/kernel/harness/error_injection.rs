//! Integrity errors injected by `scsi_debug`: to every layer above the disk they are genuine.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::disk::Disk;
use super::scsi_debug;

/// Commands fail until this is dropped.
#[derive(Debug)]
pub(crate) struct Injection(());

impl Injection {
    // Bits of `opts` (`drivers/scsi/scsi_debug.c`).

    /// The first sectors from 0x1234 on have a medium error.
    pub(crate) const MEDIUM: u32 = 0x2;
    /// Commands are never answered.
    pub(crate) const TIMEOUT: u32 = 0x4;
    /// The transport does not acknowledge commands.
    pub(crate) const TRANSPORT: u32 = 0x10;
    /// The device finds a wrong guard tag (sense b/10/1).
    pub(crate) const DEVICE: u32 = 0x20;
    /// The host adapter finds a wrong guard tag (sense 5/10/1).
    pub(crate) const HOST: u32 = 0x40;

    /// The device finds a wrong guard tag in every read and write.
    pub(crate) fn into_every_command() -> Result<Self> {
        Self::with(Self::DEVICE)
    }

    /// Every command fails as these bits of `opts` select.
    pub(crate) fn with(opts: u32) -> Result<Self> {
        // Created first, so that drop also undoes a partial injection.
        let injection = Self(());
        scsi_debug::set("opts", &format!("{opts:#x}"))?;
        scsi_debug::set("every_nth", "-1")?;
        Ok(injection)
    }
}

impl Drop for Injection {
    fn drop(&mut self) {
        for name in ["every_nth", "opts"] {
            if let Err(error) = scsi_debug::set(name, "0") {
                eprintln!("{error:#}");
            }
        }
    }
}

/// Errors for a number of commands of one kind: the driver offers them from 6.7 on, in debugfs.
#[derive(Debug)]
pub(crate) struct CommandErrors {
    file: PathBuf,
    /// Where debugfs is mounted until this is dropped.
    debugfs: tempfile::TempDir,
}

impl CommandErrors {
    /// `None` where the driver does not offer them.
    pub(crate) fn of(disk: &Disk) -> Result<Option<Self>> {
        let link = Path::new("/sys/block").join(&disk.name).join("device");
        let address =
            fs::read_link(&link).with_context(|| format!("cannot read {}", link.display()))?;
        let address =
            address.file_name().with_context(|| format!("{} has no SCSI address", disk.name))?;
        let debugfs = tempfile::tempdir().context("cannot create a folder for debugfs")?;
        mount("debugfs", debugfs.path(), "debugfs", MountFlags::empty(), None)
            .context("cannot mount debugfs")?;
        let file = debugfs.path().join("scsi_debug").join(address).join("error");
        let errors = Self { file, debugfs };
        Ok(errors.file.exists().then_some(errors))
    }

    /// The next `count` commands with this operation code end in a check condition with this sense
    /// key, code and qualifier (`sdebug_error_write`, `drivers/scsi/scsi_debug.c`).
    pub(crate) fn inject(
        &self,
        count: usize,
        opcode: u8,
        key: u8,
        asc: u8,
        ascq: u8,
    ) -> Result<()> {
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
