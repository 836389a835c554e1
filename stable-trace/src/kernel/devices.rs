//! The block devices, and what each asks of the page cache: `/sys/block`.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

use stable_trace_analysis::{
    event::{Device, Protection},
    units::DeviceId,
};

use super::{release::Release, sysfs};

/// From here on a device with checksums asks for stable pages whatever its flag says
/// (`bdev_stable_writes`, include/linux/blkdev.h, 6.11 and 6.12). Before, the flag alone counts,
/// and clearing it opens the hole that stable pages close.
const INTEGRITY_IMPLIES_STABLE: Release = Release::new(6, 11);

/// How many similar names an error lists.
const SIMILAR: usize = 6;

/// What is wrong with a device.
#[derive(Debug, thiserror::Error)]
pub enum DevicesError {
    /// The list cannot be read.
    #[error("cannot list the block devices in {}: {source}; is sysfs mounted?", path.display())]
    List {
        /// The folder.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// No device of that name or number.
    #[error("no block device `{wanted}`{}; see lsblk", similar(.known))]
    Unknown {
        /// What was asked for.
        wanted: String,
        /// Names that are like it.
        known: Vec<String>,
    },
    /// A path that leads to something else.
    #[error("{} is not a block device; name one as in lsblk, or as MAJOR:MINOR", .0.display())]
    NotBlock(PathBuf),
}

fn similar(known: &[String]) -> String {
    match known {
        [] => String::new(),
        names => format!("; there is {}", names.join(", ")),
    }
}

/// A whole disk.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DiskId {
    /// The kernel's name.
    pub name: String,
    /// Its number.
    pub dev: DeviceId,
}

/// Every disk, sorted by number, as `sysfs` (usually `/sys`) of a kernel of that release shows it.
///
/// # Errors
/// [`DevicesError::List`] if there is no `block` in it.
pub fn list(sysfs: &Path, kernel: Release) -> Result<Vec<Device>, DevicesError> {
    let mut devices: Vec<_> = entries(&sysfs.join("block"))?
        .into_iter()
        .filter_map(|(name, folder)| {
            let dev = sysfs::read_dev(&folder.join("dev"))?;
            let integrity = integrity(&folder.join("integrity"));
            let stable_writes = flag(&folder) || checksums(integrity.as_ref(), kernel);
            let device = sysfs::kernel_name(&name);
            Some(Device { device, dev, stable_writes, integrity })
        })
        .collect();
    devices.sort_by_key(|device| device.dev);
    Ok(devices)
}

/// The flag that the queue keeps from 5.10 on, and the backing device before. The latter's file is
/// still there later, but reading it logs a warning, so it is read only where the other is not.
fn flag(folder: &Path) -> bool {
    sysfs::read(&folder.join("queue/stable_writes"))
        .or_else(|| sysfs::read(&folder.join("bdi/stable_pages_required")))
        .is_some_and(|value| value == "1")
}

/// Whether the device's checksums force stability; `nop` is metadata that nothing checks.
fn checksums(integrity: Option<&Protection>, kernel: Release) -> bool {
    kernel >= INTEGRITY_IMPLIES_STABLE && integrity.is_some_and(|found| found.format != "nop")
}

/// Whether on this kernel checksums alone have a device ask for stable pages.
#[must_use]
pub fn integrity_implies_stable(kernel: Release) -> bool {
    kernel >= INTEGRITY_IMPLIES_STABLE
}

/// A device's `integrity` folder; a device without a profile says `none` in it, or has none.
fn integrity(folder: &Path) -> Option<Protection> {
    let format = sysfs::read(&folder.join("format"))?;
    if format.is_empty() || format == "none" {
        return None;
    }
    Some(Protection {
        format,
        tag_size: sysfs::read_number(&folder.join("tag_size")).unwrap_or_default(),
        interval_bytes: sysfs::read_number(&folder.join("protection_interval_bytes")),
    })
}

/// The disk that `--device` means: a kernel's name (`sda`, `sda1`), a `MAJOR:MINOR`, a device
/// mapper's name, or a path such as `/dev/disk/by-id/…`. A partition stands for its disk.
///
/// # Errors
/// [`DevicesError`] if there is none, with names that are like it.
pub fn resolve_device(sysfs: &Path, wanted: &str) -> Result<DiskId, DevicesError> {
    let number = if wanted.starts_with('/') {
        path_number(sysfs, Path::new(wanted))?
    } else {
        wanted.parse().ok()
    };
    let folder = match number {
        Some(dev) => Some(sysfs::block_folder(sysfs, dev)),
        None => named(sysfs, wanted),
    };
    match folder.and_then(|folder| disk(&folder)) {
        Some(disk) => Ok(disk),
        None => Err(DevicesError::Unknown {
            wanted: wanted.to_owned(),
            known: like(wanted, &known(sysfs)?),
        }),
    }
}

/// The number of the device that a path leads to; nothing if only its name can tell.
fn path_number(sysfs: &Path, path: &Path) -> Result<Option<DeviceId>, DevicesError> {
    let unknown = || {
        let known = known(sysfs)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Err(DevicesError::Unknown {
            wanted: path.display().to_string(),
            known: like(&name, &known),
        })
    };
    let Ok(found) = fs::metadata(path) else { return unknown() };
    if !found.file_type().is_block_device() {
        return Err(DevicesError::NotBlock(path.to_owned()));
    }
    Ok(Some(sysfs::device_id(found.rdev())))
}

/// The folder of a device of that name, or of that device-mapper name.
fn named(sysfs: &Path, name: &str) -> Option<PathBuf> {
    let folder = sysfs.join("class/block").join(sysfs::directory_name(name));
    if !name.is_empty() && !name.starts_with('.') && folder.exists() {
        return Some(folder);
    }
    let disks = entries(&sysfs.join("block")).ok()?;
    disks
        .into_iter()
        .map(|(_, folder)| folder)
        .find(|folder| sysfs::read(&folder.join("dm/name")).is_some_and(|mapped| mapped == name))
}

/// The disk that a device's folder is, or is a partition of.
fn disk(folder: &Path) -> Option<DiskId> {
    let mut folder = fs::canonicalize(folder).ok()?;
    if folder.join("partition").exists() {
        folder.pop();
    }
    let dev = sysfs::read_dev(&folder.join("dev"))?;
    let name = sysfs::kernel_name(folder.file_name()?.to_str()?);
    Some(DiskId { name, dev })
}

/// Every disk and partition by name.
fn known(sysfs: &Path) -> Result<Vec<String>, DevicesError> {
    let folder = sysfs.join("class/block");
    Ok(entries(&folder)?.into_iter().map(|(name, _)| sysfs::kernel_name(&name)).collect())
}

/// The names that begin most like the wanted one; the first ones if none does.
fn like(wanted: &str, known: &[String]) -> Vec<String> {
    let common = |name: &str| {
        name.bytes().zip(wanted.bytes()).take_while(|(ours, theirs)| ours == theirs).count()
    };
    let best = known.iter().map(|name| common(name)).max().unwrap_or_default();
    // One letter in common says nothing.
    let floor = if best < 2 { 0 } else { best };
    known.iter().filter(|name| common(name) >= floor).take(SIMILAR).cloned().collect()
}

/// The names and paths in a folder, sorted by name.
fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>, DevicesError> {
    let failed = |source| DevicesError::List { path: folder.to_owned(), source };
    let mut entries: Vec<_> = fs::read_dir(folder)
        .map_err(failed)?
        .flatten()
        .filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())))
        .collect();
    entries.sort_unstable();
    Ok(entries)
}

#[cfg(test)]
mod tests;
