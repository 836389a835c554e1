//! A mirror of the driver for RAID arrays, assembled through sysfs (Documentation/admin-guide/md.rst, 5.10 to 7.3).

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};

use super::disk::Disk;
use super::poll::wait_until;
use super::program;

const NAME: &str = "md127";

/// An array of two disks without metadata. It is stopped on drop.
#[derive(Debug)]
pub(crate) struct MdMirror(());

impl MdMirror {
    /// Both disks count as alike, so that nothing is copied at the start.
    pub(crate) fn create(disks: [&Disk; 2]) -> Result<Self> {
        program::run("modprobe", &["raid1"])?;
        fs::write("/sys/module/md_mod/parameters/new_array", NAME)
            .context("cannot create an array")?;
        // Created first, so that drop also undoes an incomplete one.
        let mirror = Self(());
        let sizes = disks.map(Disk::sectors);
        let [first, second] = sizes;
        let kib = (first?.min(second?) / 2).to_string();
        set("metadata_version", "none")?;
        set("level", "raid1")?;
        set("raid_disks", "2")?;
        set("component_size", &kib)?;
        for (slot, disk) in disks.iter().enumerate() {
            set("new_dev", &disk.dev()?)?;
            set(&format!("dev-{}/size", disk.name), &kib)?;
            set(&format!("dev-{}/slot", disk.name), &slot.to_string())?;
        }
        set("resync_start", "none")?;
        set("array_state", "active")?;
        let level = fs::read_to_string(attribute("level"))?;
        ensure!(level.trim() == "raid1", "the array has level {level}");
        wait_until(|| {
            let exists = Self::path().exists();
            Ok((!exists).then(|| format!("there is no {}", Self::path().display())))
        })?;
        Ok(mirror)
    }

    pub(crate) fn path() -> PathBuf {
        PathBuf::from("/dev").join(NAME)
    }
}

fn attribute(name: &str) -> PathBuf {
    PathBuf::from("/sys/block").join(NAME).join("md").join(name)
}

fn set(name: &str, value: &str) -> Result<()> {
    let path = attribute(name);
    fs::write(&path, value).with_context(|| format!("cannot write {value} to {}", path.display()))
}

impl Drop for MdMirror {
    fn drop(&mut self) {
        if let Err(error) = set("array_state", "clear") {
            eprintln!("{error:#}");
        }
    }
}
