//! Partitions of a disk, without a partition table.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::disk::Disk;
use super::program;

/// A partition. Removed on drop.
#[derive(Debug)]
pub(crate) struct Partition {
    disk: PathBuf,
    number: u32,
    /// The kernel's name, such as `sda1` or `loop0p1`.
    pub(crate) name: String,
}

impl Partition {
    /// From a sector on, in units of 512 bytes, as long as that.
    pub(crate) fn of(disk: &Disk, number: u32, start: u64, sectors: u64) -> Result<Self> {
        let path = disk.path.to_string_lossy();
        program::run(
            "addpart",
            &[&path, &number.to_string(), &start.to_string(), &sectors.to_string()],
        )?;
        let ends_in_digit = disk.name.ends_with(|last: char| last.is_ascii_digit());
        let separator = if ends_in_digit { "p" } else { "" };
        let name = format!("{}{separator}{number}", disk.name);
        let partition = Self { disk: disk.path.clone(), number, name };
        let node = partition.path();
        if !Path::new(&node).exists() {
            let dev = format!("/sys/class/block/{}/dev", partition.name);
            let dev = fs::read_to_string(&dev).with_context(|| format!("cannot read {dev}"))?;
            let (major, minor) = dev.trim().split_once(':').context("no device number")?;
            program::run("mknod", &[&node, "b", major, minor])?;
        }
        Ok(partition)
    }

    /// Its node.
    pub(crate) fn path(&self) -> String {
        format!("/dev/{}", self.name)
    }
}

impl Drop for Partition {
    fn drop(&mut self) {
        let (disk, number) = (self.disk.to_string_lossy(), self.number.to_string());
        if let Err(error) = program::run("delpart", &[&disk, &number]) {
            eprintln!("{error:#}");
        }
    }
}
