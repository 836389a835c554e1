//! Parameters of the `scsi_debug` driver.

use std::fs;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::direct_io::DirectFile;
use super::disk::Disk;
use super::poll::wait_until;
use super::program;

const DRIVER: &str = "/sys/bus/pseudo/drivers/scsi_debug";

/// The disk finishes its commands within this time.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) fn set(name: &str, value: &str) -> Result<()> {
    fs::write(format!("{DRIVER}/{name}"), value)
        .with_context(|| format!("cannot write {value} to scsi_debug's {name}"))
}

pub(crate) fn get(name: &str) -> Result<String> {
    let text = fs::read_to_string(format!("{DRIVER}/{name}"))
        .with_context(|| format!("cannot read scsi_debug's {name}"))?;
    Ok(text.trim().to_owned())
}

/// Sets a parameter that the driver changes only while no command is in flight.
pub(crate) fn set_when_idle(name: &str, value: &str) -> Result<()> {
    let deadline = Instant::now() + IDLE_TIMEOUT;
    loop {
        match fs::write(format!("{DRIVER}/{name}"), value) {
            Err(error) if error.kind() == ErrorKind::ResourceBusy && Instant::now() < deadline => {
                rustix::fs::sync();
            }
            result => {
                return result
                    .with_context(|| format!("cannot write {value} to scsi_debug's {name}"));
            }
        }
    }
}

/// The disk with IP checksums as guards between host and disk, until this is dropped. Its data is lost.
#[derive(Debug)]
pub(crate) struct IpChecksums(());

impl IpChecksums {
    pub(crate) fn load() -> Result<Self> {
        // Created first, so that drop also undoes a partial change.
        let loaded = Self(());
        load("guard=1")?;
        let disk = Disk::pi()?;
        let format = disk.integrity_format();
        ensure!(format.as_deref() == Some("T10-DIF-TYPE1-IP"), "{} has {format:?}", disk.name);
        Ok(loaded)
    }
}

impl Drop for IpChecksums {
    fn drop(&mut self) {
        if let Err(error) = load("guard=0") {
            eprintln!("{error:#}");
        }
    }
}

/// Loads the driver again, with a disk as the guest's start made it (`xtask/src/lab/initrd.rs`, `stage.sh`).
fn load(guard: &str) -> Result<()> {
    program::run("modprobe", &["-r", "scsi_debug"])?;
    program::run("modprobe", &["scsi_debug", "dif=1", "dix=1", guard, "dev_size_mb=320"])?;
    wait_until(|| {
        let opened = Disk::pi().and_then(|disk| DirectFile::open(&disk.path));
        Ok(opened.err().map(|error| format!("{error:#}")))
    })?;
    // WRITE SAME does not update the stored tags, so that later reads fail.
    for disk in fs::read_dir("/sys/class/scsi_disk").context("there is no SCSI disk")? {
        let attribute = disk?.path().join("max_write_same_blocks");
        fs::write(&attribute, "0")
            .with_context(|| format!("cannot write to {}", attribute.display()))?;
    }
    Ok(())
}

/// A second disk of the driver, with the data of the first. Removed on drop.
#[derive(Debug)]
pub(crate) struct AddedDisk {
    pub(crate) disk: Disk,
}

impl AddedDisk {
    pub(crate) fn create() -> Result<Self> {
        let before = disks()?;
        set("add_host", "1")?;
        let mut added = None;
        let appeared = wait_until(|| {
            let now = disks()?;
            added = now.into_iter().find(|name| !before.contains(name));
            let open = |name: &String| Disk::named(name).and_then(|it| DirectFile::open(&it.path));
            let opened = added.as_ref().map(open).transpose();
            Ok(match opened {
                Ok(Some(_)) => None,
                Ok(None) => Some("scsi_debug has added no disk".to_owned()),
                Err(error) => Some(format!("{error:#}")),
            })
        });
        if let Err(error) = appeared {
            set("add_host", "-1")?;
            return Err(error);
        }
        let name = added.context("scsi_debug has added no disk")?;
        Ok(Self { disk: Disk::named(&name)? })
    }
}

impl Drop for AddedDisk {
    fn drop(&mut self) {
        if let Err(error) = set("add_host", "-1") {
            eprintln!("{error:#}");
        }
    }
}

/// The names of SCSI disks.
fn disks() -> Result<Vec<String>> {
    let folder = fs::read_dir("/sys/block").context("cannot list /sys/block")?;
    let mut names = Vec::new();
    for entry in folder {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with("sd") {
            names.push(name);
        }
    }
    Ok(names)
}
