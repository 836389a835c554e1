//! Device-mapper targets.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::disk::Disk;
use super::program;

/// Runs a program that creates its device nodes itself: a guest has no udev to wait for.
fn run_without_udev(program: &str, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(program);
    command.args(arguments).env("DM_DISABLE_UDEV", "1");
    program::run_command(&mut command)
}

/// Returns `dm-0` for a node below `/dev/mapper`.
fn kernel_name(name: &str) -> Result<String> {
    let words = ["info", "-c", "--noheadings", "-o", "major,minor", "--separator", ":", name];
    let numbers = run_without_udev("dmsetup", &words)?;
    let link = format!("/sys/dev/block/{}", numbers.trim());
    let target = std::fs::read_link(&link).with_context(|| format!("cannot read {link}"))?;
    let name = target.file_name().with_context(|| format!("{link} has no target name"))?;
    Ok(name.to_string_lossy().into_owned())
}

/// A mapping by a table. Removed on drop.
#[derive(Debug)]
pub(crate) struct Mapping {
    label: &'static str,
    kernel_name: String,
}

impl Mapping {
    /// A dm-linear device over a whole disk.
    pub(crate) fn linear(disk: &Disk) -> Result<Self> {
        let table = format!("0 {} linear {} 0", disk.sectors()?, disk.path.display());
        Self::create("stable-trace-linear", "dm-mod", &table)
    }

    /// A mirror of two disks of one size.
    pub(crate) fn mirror(one: &Disk, other: &Disk) -> Result<Self> {
        let sectors = one.sectors()?;
        let (one, other) = (one.path.display(), other.path.display());
        let table = format!("0 {sectors} mirror core 2 1024 nosync 2 {one} 0 {other} 0");
        Self::create("stable-trace-mirror", "dm-mirror", &table)
    }

    /// The last block of 4 KiB of a disk, and behind it one of another disk that is read `ms` later.
    pub(crate) fn last_block_before_slow(disk: &Disk, other: &Disk, ms: u32) -> Result<Self> {
        let (last, disk) = (disk.sectors()? - 8, disk.path.display());
        let other = other.path.display();
        let table = format!("0 8 linear {disk} {last}\n8 8 delay {other} 0 {ms}");
        Self::create("stable-trace-parts", "dm-delay", &table)
    }

    fn create(label: &'static str, module: &str, table: &str) -> Result<Self> {
        program::run("modprobe", &[module])?;
        run_without_udev("dmsetup", &["create", label, "--table", table])?;
        Ok(Self { label, kernel_name: kernel_name(label)? })
    }

    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from("/dev/mapper").join(self.label)
    }

    /// The kernel's name of the device, such as `dm-0`.
    pub(crate) fn name(&self) -> &str {
        &self.kernel_name
    }

    /// Lets nothing through to the disk, until this is dropped.
    pub(crate) fn suspend(&self) -> Result<Suspended> {
        run_without_udev("dmsetup", &["suspend", "--noflush", "--nolockfs", self.label])?;
        Ok(Suspended(self.label))
    }
}

/// A mapping that lets nothing through.
#[derive(Debug)]
pub(crate) struct Suspended(&'static str);

impl Drop for Suspended {
    fn drop(&mut self) {
        if let Err(error) = run_without_udev("dmsetup", &["resume", self.0]) {
            eprintln!("{error:#}");
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if let Err(error) = run_without_udev("dmsetup", &["remove", "--retry", self.label]) {
            eprintln!("{error:#}");
        }
    }
}

/// A LUKS device over a whole disk. Closed on drop.
#[derive(Debug)]
pub(crate) struct DmCrypt(String);

impl DmCrypt {
    const NAME: &str = "stable-trace-crypt";

    pub(crate) fn over(disk: &Disk) -> Result<Self> {
        program::run("modprobe", &["dm-crypt"])?;
        let mut key = tempfile::NamedTempFile::new().context("cannot create a key file")?;
        key.write_all(&[7; 32]).context("cannot write the key file")?;
        let (key, device) = (key.path().to_string_lossy(), disk.path.to_string_lossy());
        let format =
            ["luksFormat", "--batch-mode", "--type=luks1", "--pbkdf-force-iterations=1000"];
        run_without_udev("cryptsetup", &[format.as_slice(), &[&device, &key]].concat())?;
        run_without_udev("cryptsetup", &["open", "--key-file", &key, &device, Self::NAME])?;
        kernel_name(Self::NAME).map(Self)
    }

    /// The kernel's name of the device, such as `dm-0`.
    pub(crate) fn name(&self) -> &str {
        &self.0
    }
}

impl Drop for DmCrypt {
    fn drop(&mut self) {
        if let Err(error) = run_without_udev("cryptsetup", &["close", Self::NAME]) {
            eprintln!("{error:#}");
        }
    }
}

/// A dm-integrity device with a checksum for each sector; data and checksums are on separate
/// devices. Closed on drop.
#[derive(Debug)]
pub(crate) struct DmIntegrity {
    path: PathBuf,
    kernel_name: String,
    data: String,
    tags: String,
}

impl DmIntegrity {
    const NAME: &str = "stable-trace-integrity";

    /// Formats both devices and opens the mapping.
    pub(crate) fn format(data: &Disk, tags: &Disk) -> Result<Self> {
        program::run("modprobe", &["dm-integrity"])?;
        let (data, tags) = (data.path.to_string_lossy(), tags.path.to_string_lossy());
        let words =
            ["format", "--batch-mode", "--integrity=crc32c", "--sector-size=4096", "--data-device"];
        run_without_udev("integritysetup", &[words.as_slice(), &[&data, &tags]].concat())?;
        Self::open(&data, &tags)
    }

    /// Closes the mapping and opens it again, so that nothing is cached.
    pub(crate) fn reopened(self) -> Result<Self> {
        let (data, tags) = (self.data.clone(), self.tags.clone());
        drop(self);
        Self::open(&data, &tags)
    }

    fn open(data: &str, tags: &str) -> Result<Self> {
        let words = ["open", "--integrity=crc32c", "--data-device", data, tags, Self::NAME];
        run_without_udev("integritysetup", &words)?;
        Ok(Self {
            path: PathBuf::from("/dev/mapper").join(Self::NAME),
            kernel_name: kernel_name(Self::NAME)?,
            data: data.to_owned(),
            tags: tags.to_owned(),
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The kernel's name of the device, such as `dm-0`.
    pub(crate) fn name(&self) -> &str {
        &self.kernel_name
    }
}

impl Drop for DmIntegrity {
    fn drop(&mut self) {
        if let Err(error) = run_without_udev("integritysetup", &["close", Self::NAME]) {
            eprintln!("{error:#}");
        }
    }
}
