//! The block devices, and what each requires of the page cache: `/sys/block`.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

use stable_trace_analysis::{
    event::{Device, Protection},
    units::DeviceId,
};

use super::{data_risk::own_risk, protection::protection, release::Release, sysfs};

/// From this version on a device with checksums requires stable pages whatever its flag is
/// (`bdev_stable_writes`, include/linux/blkdev.h, 6.11 and 6.12). Before, only the flag counts, and
/// clearing it lets pages change under writeback to a device that checks them.
const INTEGRITY_IMPLIES_STABLE: Release = Release::new(6, 11);

/// The most similar names that an error lists.
const MAX_SIMILAR: usize = 6;

/// Why a device cannot be found or listed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DevicesError {
    /// The list cannot be read.
    #[error("cannot list the block devices in {} (is sysfs mounted?)", path.display())]
    List {
        /// The folder.
        path: PathBuf,
        /// The kernel's error.
        #[source]
        source: io::Error,
    },
    /// No device has that name or number.
    #[error("no block device `{name}`{}; see lsblk", similar_names(.similar))]
    Unknown {
        /// The name or number that was asked for.
        name: String,
        /// Similar names.
        similar: Vec<String>,
    },
    /// The path leads to something else.
    #[error("{} is not a block device; name one as in lsblk, or as MAJOR:MINOR", .0.display())]
    NotBlock(PathBuf),
}

fn similar_names(similar: &[String]) -> String {
    match similar {
        [] => String::new(),
        names => format!("; there is {}", names.join(", ")),
    }
}

/// A whole disk.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct DiskId {
    /// The kernel's name.
    pub(crate) name: String,
    /// Its number.
    pub(crate) dev: DeviceId,
}

/// Every disk in `sysfs` (usually `/sys`), sorted by number. `kernel` is the release that runs.
pub(crate) fn list(sysfs: &Path, kernel: Release) -> Result<Vec<Device>, DevicesError> {
    let mut devices: Vec<_> = entries(&sysfs.join("block"))?
        .into_iter()
        .filter_map(|(name, folder)| {
            let dev = sysfs::read_dev(&folder.join("dev"))?;
            let integrity = protection(&folder);
            let stable_writes =
                stable_writes_flag(&folder) || checksums_require_stable(integrity.as_ref(), kernel);
            let device = sysfs::kernel_name(&name);
            let risk = own_risk(&folder, dev);
            Some(Device { device, dev, stable_writes, integrity, risk })
        })
        .collect();
    devices.sort_by_key(|device| device.dev);
    Ok(devices)
}

/// Whether a disk in `sysfs` checks integrity.
pub(crate) fn any_checks(sysfs: &Path) -> bool {
    let disks = entries(&sysfs.join("block")).unwrap_or_default();
    disks.iter().any(|(_, folder)| protection(folder).is_some_and(|found| found.is_checked()))
}

/// The flag is the queue's from 5.10 on, and the backing device's before. The latter's file still
/// exists later, but reading it logs a warning, so it is read only without the former.
fn stable_writes_flag(folder: &Path) -> bool {
    sysfs::read(&folder.join("queue/stable_writes"))
        .or_else(|| sysfs::read(&folder.join("bdi/stable_pages_required")))
        .is_some_and(|value| value == "1")
}

fn checksums_require_stable(integrity: Option<&Protection>, kernel: Release) -> bool {
    integrity_implies_stable(kernel) && integrity.is_some_and(Protection::is_checked)
}

/// Whether a device with checksums requires stable pages on this kernel without the flag.
pub(crate) fn integrity_implies_stable(kernel: Release) -> bool {
    kernel >= INTEGRITY_IMPLIES_STABLE
}

/// Resolves `--device`: a kernel's name (`sda`, `sda1`), a `MAJOR:MINOR`, a device mapper's name, or
/// a path such as `/dev/disk/by-id/…`.
pub(crate) fn resolve_device(sysfs: &Path, device: &str) -> Result<DeviceId, DevicesError> {
    resolve(sysfs, device, |folder| sysfs::read_dev(&folder.join("dev")))
}

/// Resolves the same names to a disk. A partition resolves to its disk.
pub(crate) fn resolve_disk(sysfs: &Path, device: &str) -> Result<DiskId, DevicesError> {
    resolve(sysfs, device, disk)
}

fn resolve<T>(
    sysfs: &Path,
    device: &str,
    read: impl FnOnce(&Path) -> Option<T>,
) -> Result<T, DevicesError> {
    let number = if device.starts_with('/') {
        path_number(sysfs, Path::new(device))?
    } else {
        device.parse().ok()
    };
    let folder = match number {
        Some(dev) => Some(sysfs::block_folder(sysfs, dev)),
        None => folder_by_name(sysfs, device),
    };
    match folder.and_then(|folder| read(&folder)) {
        Some(found) => Ok(found),
        None => Err(DevicesError::Unknown {
            name: device.to_owned(),
            similar: most_similar(device, &device_names(sysfs)?),
        }),
    }
}

/// The number of the device that a path leads to.
fn path_number(sysfs: &Path, path: &Path) -> Result<Option<DeviceId>, DevicesError> {
    let Ok(found) = fs::metadata(path) else {
        let file_name = path.file_name().unwrap_or_default().to_string_lossy();
        return Err(DevicesError::Unknown {
            name: path.display().to_string(),
            similar: most_similar(&file_name, &device_names(sysfs)?),
        });
    };
    if !found.file_type().is_block_device() {
        return Err(DevicesError::NotBlock(path.to_owned()));
    }
    Ok(Some(sysfs::device_id(found.rdev())))
}

/// The folder of the device with this name, or with this device-mapper name.
fn folder_by_name(sysfs: &Path, name: &str) -> Option<PathBuf> {
    let folder = sysfs.join("class/block").join(sysfs::folder_name(name));
    if !name.is_empty() && !name.starts_with('.') && folder.exists() {
        return Some(folder);
    }
    let disks = entries(&sysfs.join("block")).ok()?;
    disks
        .into_iter()
        .map(|(_, folder)| folder)
        .find(|folder| sysfs::read(&folder.join("dm/name")).is_some_and(|mapped| mapped == name))
}

/// The disk that a device is, or is a partition of.
fn disk(folder: &Path) -> Option<DiskId> {
    let folder = sysfs::whole_disk(folder)?;
    let dev = sysfs::read_dev(&folder.join("dev"))?;
    Some(DiskId { name: sysfs::device_name(&folder), dev })
}

/// The names of all disks and partitions.
fn device_names(sysfs: &Path) -> Result<Vec<String>, DevicesError> {
    let folder = sysfs.join("class/block");
    Ok(entries(&folder)?.into_iter().map(|(name, _)| sysfs::kernel_name(&name)).collect())
}

/// The names with the longest beginning in common with the wanted one; the first names if none has.
fn most_similar(wanted: &str, names: &[String]) -> Vec<String> {
    let common = |name: &str| {
        name.bytes().zip(wanted.bytes()).take_while(|(ours, theirs)| ours == theirs).count()
    };
    let best = names.iter().map(|name| common(name)).max().unwrap_or_default();
    // One letter in common is chance.
    let floor = if best < 2 { 0 } else { best };
    names.iter().filter(|name| common(name) >= floor).take(MAX_SIMILAR).cloned().collect()
}

fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>, DevicesError> {
    let failed = |source| DevicesError::List { path: folder.to_owned(), source };
    sysfs::entries(folder).map_err(failed)
}

#[cfg(test)]
mod tests;
