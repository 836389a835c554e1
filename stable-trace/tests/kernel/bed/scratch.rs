//! A fresh file system for one test.

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use tempfile::TempDir;

use super::disk::Disk;
use super::{program, unreadable};

/// A file system's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fs {
    /// ext4.
    Ext4,
    /// XFS.
    Xfs,
    /// Btrfs.
    Btrfs,
}

impl Fs {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Ext4, Self::Xfs, Self::Btrfs];

    /// As `mount -t` takes it, and as the agent prints it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }

    /// Without discards and without having the disk write zeros: both leave tags behind that do
    /// not match (`scsi_debug`'s WRITE SAME on all kernels; NVMe's Write Zeroes on 5.10, which asks
    /// for no tags).
    fn make(self, device: &str) -> Result<()> {
        let (program, arguments): (_, &[&str]) = match self {
            Self::Ext4 => ("mkfs.ext4", &["-q", "-F", "-E", "nodiscard"]),
            Self::Xfs => ("mkfs.xfs", &["-q", "-f", "-K"]),
            Self::Btrfs => ("mkfs.btrfs", &["-q", "-f", "-K"]),
        };
        let mut command = Command::new(program);
        // e2fsprogs, lib/ext2fs/unix_io.c.
        command.args(arguments).arg(device).env("UNIX_IO_NOZEROOUT", "1");
        program::finish(&mut command).map(drop)
    }

    /// ext4 would write inode tables in the background, which no test asked for.
    fn options(self) -> Option<&'static std::ffi::CStr> {
        match self {
            Self::Ext4 => Some(c"noinit_itable"),
            Self::Xfs | Self::Btrfs => None,
        }
    }
}

impl fmt::Display for Fs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A mounted file system. Dropped, it is unmounted and the disk is as it was, but for its data.
#[derive(Debug)]
pub struct Scratch {
    folder: Option<TempDir>,
    disk: Disk,
    stable_writes_before: Option<String>,
    /// Whether what is written may change on its way to the disk.
    in_flux: bool,
}

const STABLE_WRITES: &str = "queue/stable_writes";

impl Scratch {
    /// Makes and mounts a file system; the disk asks for stable pages or not as it always does.
    pub fn new(fs: Fs, disk: Disk) -> Result<Self> {
        Self::mounted(fs, disk, None)
    }

    /// The same with `queue/stable_writes` set before the mount, when file systems look at it.
    pub fn with_stable_writes(fs: Fs, disk: Disk, stable: bool) -> Result<Self> {
        Self::mounted(fs, disk, Some(stable))
    }

    fn mounted(fs: Fs, disk: Disk, stable: Option<bool>) -> Result<Self> {
        let device = disk.path.to_string_lossy().into_owned();
        fs.make(&device)?;
        let mut scratch =
            Self { folder: None, disk, stable_writes_before: None, in_flux: stable == Some(false) };
        if let Some(stable) = stable {
            scratch.stable_writes_before = scratch.disk.attribute(STABLE_WRITES);
            scratch.disk.set_attribute(STABLE_WRITES, if stable { "1" } else { "0" })?;
        }
        let folder = tempfile::Builder::new()
            .prefix("stable-trace-")
            .tempdir()
            .context("cannot make a folder to mount on")?;
        mount(&device, folder.path(), fs.name(), MountFlags::empty(), fs.options())
            .with_context(|| format!("cannot mount {fs} on {device}"))?;
        scratch.folder = Some(folder);
        Ok(scratch)
    }

    /// For direct I/O from buffers that change meanwhile, whatever is kept stable in the page cache.
    pub const fn with_shared_buffers(mut self) -> Self {
        self.in_flux = true;
        self
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.folder.as_ref().map_or(Path::new("/nonexistent"), TempDir::path)
    }

    /// What it is on.
    pub const fn disk(&self) -> &Disk {
        &self.disk
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some(folder) = self.folder.take() {
            // Whoever still has a file open keeps the file system, but nobody new finds it.
            if let Err(error) = unmount(folder.path(), UnmountFlags::empty())
                .or_else(|_| unmount(folder.path(), UnmountFlags::DETACH))
            {
                eprintln!("cannot unmount {}: {error}", folder.path().display());
                // Deleting would go into the file system.
                let _ = folder.keep();
            }
        }
        if let Some(before) = self.stable_writes_before.take()
            && let Err(error) = self.disk.set_attribute(STABLE_WRITES, &before)
        {
            eprintln!("{error:#}");
        }
        if self.in_flux {
            match unreadable::mend(&self.disk) {
                Ok(0) => {}
                Ok(mended) => eprintln!("{}: {mended} blocks could not be read", self.disk.name),
                Err(error) => eprintln!("{error:#}"),
            }
        }
    }
}

/// Has the next reads come from the disk.
pub fn drop_caches() -> Result<()> {
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", "3").context("cannot drop the page cache")
}
