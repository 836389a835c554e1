//! Devices of the device mapper.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::disk::Disk;
use super::program;

/// Nobody manages devices in a guest: the programs make the nodes themselves, and wait for nobody.
fn quietly(program: &str, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(program);
    command.args(arguments).env("DM_DISABLE_UDEV", "1");
    program::finish(&mut command)
}

/// `dm-0`, of a node below `/dev/mapper`.
fn kernel_name(name: &str) -> Result<String> {
    let words = ["info", "-c", "--noheadings", "-o", "major,minor", "--separator", ":", name];
    let numbers = quietly("dmsetup", &words)?;
    let link = format!("/sys/dev/block/{}", numbers.trim());
    let target = std::fs::read_link(&link).with_context(|| format!("cannot read {link}"))?;
    let name = target.file_name().with_context(|| format!("{link} leads nowhere"))?;
    Ok(name.to_string_lossy().into_owned())
}

/// The whole of a disk, mapped one to one. Removed when dropped.
#[derive(Debug)]
pub struct Linear(PathBuf);

impl Linear {
    const NAME: &str = "stable-trace-linear";

    /// Maps it.
    pub fn over(disk: &Disk) -> Result<Self> {
        program::run("modprobe", &["dm-mod"])?;
        let sectors = disk.sectors()?;
        let table = format!("0 {sectors} linear {} 0", disk.path.display());
        quietly("dmsetup", &["create", Self::NAME, "--table", &table])?;
        Ok(Self(PathBuf::from("/dev/mapper").join(Self::NAME)))
    }

    /// Its node.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Linear {
    fn drop(&mut self) {
        if let Err(error) = quietly("dmsetup", &["remove", "--retry", Self::NAME]) {
            eprintln!("{error:#}");
        }
    }
}

/// dm-integrity with a checksum of its own for each sector, which lies on another device than the
/// data. Closed when dropped.
#[derive(Debug)]
pub struct Integrity {
    path: PathBuf,
    kernel_name: String,
    data: String,
    tags: String,
}

impl Integrity {
    const NAME: &str = "stable-trace-integrity";

    /// Makes it anew and opens it.
    pub fn format(data: &Disk, tags: &Disk) -> Result<Self> {
        program::run("modprobe", &["dm-integrity"])?;
        let (data, tags) = (data.path.to_string_lossy(), tags.path.to_string_lossy());
        let words =
            ["format", "--batch-mode", "--integrity=crc32c", "--sector-size=4096", "--data-device"];
        quietly("integritysetup", &[words.as_slice(), &[&data, &tags]].concat())?;
        Self::open(&data, &tags)
    }

    /// The same once more, with nothing left in memory.
    pub fn reopened(self) -> Result<Self> {
        let (data, tags) = (self.data.clone(), self.tags.clone());
        drop(self);
        Self::open(&data, &tags)
    }

    fn open(data: &str, tags: &str) -> Result<Self> {
        let words = ["open", "--integrity=crc32c", "--data-device", data, tags, Self::NAME];
        quietly("integritysetup", &words)?;
        Ok(Self {
            path: PathBuf::from("/dev/mapper").join(Self::NAME),
            kernel_name: kernel_name(Self::NAME)?,
            data: data.to_owned(),
            tags: tags.to_owned(),
        })
    }

    /// Its node.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The kernel's name for it.
    pub fn name(&self) -> &str {
        &self.kernel_name
    }
}

impl Drop for Integrity {
    fn drop(&mut self) {
        if let Err(error) = quietly("integritysetup", &["close", Self::NAME]) {
            eprintln!("{error:#}");
        }
    }
}
