//! A new file system for one test.

use std::ffi::CStr;
use std::fmt;
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use tempfile::TempDir;

use super::disk::Disk;
use super::{program, unreadable_blocks};

/// The type of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fs {
    Ext4,
    Xfs,
    Btrfs,
}

impl Fs {
    pub(crate) const ALL: [Self; 3] = [Self::Ext4, Self::Xfs, Self::Btrfs];

    /// The name for `mount -t`, which the agent reports.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }

    /// The function that handles `page_mkwrite`, from 5.10 to 7.3.
    pub(crate) const fn page_mkwrite_handler(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4_page_mkwrite",
            Self::Xfs => "xfs_filemap_page_mkwrite",
            Self::Btrfs => "btrfs_page_mkwrite",
        }
    }

    const fn format(self) -> Format {
        let (mkfs, mount_options): (_, Option<&CStr>) = match self {
            // Without writing inode tables in the background.
            Self::Ext4 => {
                (["mkfs.ext4", "-q", "-F", "-E", "nodiscard"].as_slice(), Some(c"noinit_itable"))
            }
            Self::Xfs => (["mkfs.xfs", "-q", "-f", "-K"].as_slice(), None),
            Self::Btrfs => (["mkfs.btrfs", "-q", "-f", "-K"].as_slice(), None),
        };
        Format { name: self.name(), mkfs, mount_options }
    }
}

impl fmt::Display for Fs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a file system is made and mounted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Format {
    /// The name for `mount -t`.
    name: &'static str,
    /// `mkfs` without discards and without zeroing by the disk: both leave tags that do not match
    /// (`scsi_debug`'s WRITE SAME on all kernels; NVMe's Write Zeroes on 5.10, which requests no tags).
    mkfs: &'static [&'static str],
    mount_options: Option<&'static CStr>,
}

impl Format {
    /// ext2, by the driver of ext4. Its metadata is written without the marks of writeback.
    pub(crate) const EXT2: Self = Self {
        name: "ext2",
        mkfs: &["mkfs.ext4", "-q", "-F", "-t", "ext2", "-E", "nodiscard"],
        mount_options: None,
    };

    /// FAT. Its metadata is written as that of ext2.
    pub(crate) const VFAT: Self = Self { name: "vfat", mkfs: &["mkfs.vfat"], mount_options: None };

    fn make(&self, device: &str) -> Result<()> {
        // Failed writes of an earlier test are told to the next who asks (Documentation/core-api/errseq.rst).
        if let Err(error) = File::open(device)?.sync_all() {
            eprintln!("{device} before mkfs: {error}");
        }
        let [program, arguments @ ..] = self.mkfs else { bail!("no program makes {}", self.name) };
        let mut command = Command::new(program);
        // e2fsprogs, lib/ext2fs/unix_io.c.
        command.args(arguments).arg(device).env("UNIX_IO_NOZEROOUT", "1");
        program::run_command(&mut command).map(drop)
    }
}

/// A mounted file system. On drop, it is unmounted and the disk's settings are restored.
#[derive(Debug)]
pub(crate) struct Scratch {
    folder: Option<TempDir>,
    disk: Disk,
    stable_writes_before: Option<String>,
    /// Whether data may change while the disk reads it, which leaves unreadable blocks.
    unstable_data: bool,
}

const STABLE_WRITES: &str = "queue/stable_writes";

impl Scratch {
    /// Creates and mounts a file system with the disk's default of `queue/stable_writes`.
    pub(crate) fn new(fs: Fs, disk: Disk) -> Result<Self> {
        Self::create(fs.format(), disk, None)
    }

    /// Like [`new`](Self::new), in another format.
    pub(crate) fn formatted(format: Format, disk: Disk) -> Result<Self> {
        Self::create(format, disk, None)
    }

    /// Like [`new`](Self::new), with `queue/stable_writes` set before the mount, when file systems
    /// read it.
    pub(crate) fn with_stable_writes(fs: Fs, disk: Disk, stable: bool) -> Result<Self> {
        Self::create(fs.format(), disk, Some(stable))
    }

    fn create(format: Format, disk: Disk, stable: Option<bool>) -> Result<Self> {
        let device = disk.path.to_string_lossy().into_owned();
        format.make(&device)?;
        let unstable_data = stable == Some(false);
        let mut scratch = Self { folder: None, disk, stable_writes_before: None, unstable_data };
        if let Some(stable) = stable {
            scratch.stable_writes_before = scratch.disk.attribute(STABLE_WRITES);
            scratch.disk.set_attribute(STABLE_WRITES, if stable { "1" } else { "0" })?;
        }
        let folder = tempfile::Builder::new()
            .prefix("stable-trace-")
            .tempdir()
            .context("cannot create a mount point")?;
        let Format { name, mount_options, .. } = format;
        mount(&device, folder.path(), name, MountFlags::empty(), mount_options)
            .with_context(|| format!("cannot mount {name} on {device}"))?;
        scratch.folder = Some(folder);
        Ok(scratch)
    }

    /// Declares direct I/O from buffers that change in flight: stable pages do not protect those.
    pub(crate) const fn with_shared_buffers(mut self) -> Self {
        self.unstable_data = true;
        self
    }

    /// The mount point.
    pub(crate) fn path(&self) -> &Path {
        self.folder.as_ref().map_or(Path::new("/nonexistent"), TempDir::path)
    }

    pub(crate) const fn disk(&self) -> &Disk {
        &self.disk
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some(folder) = self.folder.take() {
            // With a file still open, the file system stays but can no longer be reached.
            if let Err(error) = unmount(folder.path(), UnmountFlags::empty())
                .or_else(|_| unmount(folder.path(), UnmountFlags::DETACH))
            {
                eprintln!("cannot unmount {}: {error}", folder.path().display());
                // Removing the folder would delete files of the mounted file system.
                let _ = folder.keep();
            }
        }
        if let Some(before) = self.stable_writes_before.take()
            && let Err(error) = self.disk.set_attribute(STABLE_WRITES, &before)
        {
            eprintln!("{error:#}");
        }
        if self.unstable_data {
            match unreadable_blocks::rewrite(&self.disk) {
                Ok(0) => {}
                Ok(count) => eprintln!("{}: rewrote {count} unreadable blocks", self.disk.name),
                Err(error) => eprintln!("{error:#}"),
            }
        }
    }
}

/// Drops the page cache, so that the next reads come from the disk.
pub(crate) fn drop_caches() -> Result<()> {
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", "3").context("cannot drop the page cache")
}
