//! From a backing device's name or a device number to a block device and a file system.
//!
//! The `name` of `writeback:folio_wait_writeback` is that of the backing-device info
//! (`bdi_dev_name`, mm/backing-dev.c, 6.12). For a block device it is `major:minor` of the whole disk
//! (`bdi_register(disk->bdi, "%u:%u", disk->major, disk->first_minor)`, block/genhd.c), for btrfs
//! `btrfs-N` (`super_setup_bdi_name`, fs/btrfs/super.c), for NFS and other file systems without a
//! block device the `0:N` of the mount. It does not tell the partition; the mounts may.

use std::{
    collections::{BTreeSet, HashMap},
    fs::File,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io::{self, Read, Seek},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use stable_trace_analysis::units::DeviceId;

use super::{
    mountinfo::{MOUNTINFO, Mount, mount_at, parse},
    sysfs,
};

/// The shortest time between two periodic reads of the list.
const MIN_INTERVAL: Duration = Duration::from_millis(250);

/// A periodic read waits for this many times as long as the last one took, so that a storm of mounts
/// costs about 2 % of a CPU: the kernel writes the whole list each time.
const PERIODIC_REST: u32 = 50;

/// The same for a read that a new file system asks for, which is needed sooner.
const LOOKUP_REST: u32 = 10;

/// Why the mounts are not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MountsError {
    /// The list cannot be read.
    #[error("cannot read {MOUNTINFO} (is /proc mounted?)")]
    Read(#[source] io::Error),
}

/// The device behind a file system or a backing-device name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BackingDevice {
    /// The kernel's name. It is a partition's only where no other partition of its disk is mounted.
    pub(crate) device: String,
    /// The number of `device`.
    pub(crate) dev: DeviceId,
    /// Type of the file system; `None` if there are several, or none.
    pub(crate) fs: Option<String>,
    /// Every whole disk below; empty for file systems without one, such as NFS.
    pub(crate) disks: Vec<DeviceId>,
    /// The block devices that the file system lies on, which may be partitions.
    pub(crate) members: Vec<DeviceId>,
}

/// Why the list is read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refresh {
    /// From time to time.
    Periodic,
    /// A file system was seen that the list may lack.
    Lookup,
}

/// The mounted file systems.
#[derive(Debug)]
pub(crate) struct Mounts {
    sysfs: PathBuf,
    list: Vec<Mount>,
    /// The index of the first mount of each file system, and a hash of all its mounts.
    by_dev: HashMap<DeviceId, (usize, u64)>,
    /// How often the list was replaced.
    generation: u64,
    /// Kept open: the kernel notes per open file which changes were polled. `None` in tests.
    file: Option<File>,
    /// A change was polled, and the list was not read since.
    stale: bool,
    last_read: Instant,
    read_took: Duration,
}

impl Mounts {
    /// Reads the mounts of this process.
    pub(crate) fn load() -> Result<Self, MountsError> {
        Self::open(Path::new(MOUNTINFO))
    }

    fn open(mountinfo: &Path) -> Result<Self, MountsError> {
        let file = File::open(mountinfo).map_err(MountsError::Read)?;
        let mut mounts = Self::empty(PathBuf::from("/sys"), Some(file));
        mounts.read()?;
        Ok(mounts)
    }

    /// Parses the text of a mountinfo, for tests with a sysfs of their own.
    #[cfg(test)]
    pub(crate) fn from_text(mountinfo: &str, sysfs: &Path) -> Self {
        let mut mounts = Self::empty(sysfs.to_owned(), None);
        mounts.replace(parse(mountinfo));
        mounts
    }

    /// Takes the text of another mountinfo, in tests.
    #[cfg(test)]
    pub(crate) fn replace_text(&mut self, mountinfo: &str) {
        self.replace(parse(mountinfo));
    }

    fn empty(sysfs: PathBuf, file: Option<File>) -> Self {
        Self {
            sysfs,
            list: Vec::new(),
            by_dev: HashMap::new(),
            generation: 0,
            file,
            stale: false,
            last_read: Instant::now(),
            read_took: Duration::ZERO,
        }
    }

    /// Whether anything was mounted or unmounted since the last call (`mounts_poll`,
    /// `fs/proc_namespace.c`, 6.12). One system call that does not block.
    fn changed(&self) -> bool {
        let Some(file) = &self.file else { return false };
        let mut fds = [PollFd::new(file, PollFlags::PRI | PollFlags::ERR)];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let changed = PollFlags::PRI | PollFlags::ERR;
        poll(&mut fds, Some(&at_once)).is_ok_and(|_| fds[0].revents().intersects(changed))
    }

    /// Reads the mounts again if any changed, unless the last read was a moment ago. Returns the file
    /// systems of which a mount came or went. On an error the earlier list stays.
    pub(crate) fn refresh(&mut self, reason: Refresh) -> Result<BTreeSet<DeviceId>, MountsError> {
        self.stale |= self.changed();
        if !self.stale || self.last_read.elapsed() < self.rest(reason) {
            return Ok(BTreeSet::new());
        }
        self.read()
    }

    fn rest(&self, reason: Refresh) -> Duration {
        match reason {
            Refresh::Periodic => MIN_INTERVAL.max(self.read_took.saturating_mul(PERIODIC_REST)),
            Refresh::Lookup => self.read_took.saturating_mul(LOOKUP_REST),
        }
    }

    fn read(&mut self) -> Result<BTreeSet<DeviceId>, MountsError> {
        let Some(file) = &mut self.file else { return Ok(BTreeSet::new()) };
        let began = Instant::now();
        let mut bytes = Vec::new();
        let read = file.rewind().and_then(|()| file.read_to_end(&mut bytes));
        self.stale = false;
        let changed = match read {
            Ok(_) => Ok(self.replace(parse(&String::from_utf8_lossy(&bytes)))),
            Err(error) => Err(MountsError::Read(error)),
        };
        self.last_read = Instant::now();
        self.read_took = began.elapsed();
        changed
    }

    /// Takes a new list, and returns the file systems whose mounts differ from those of the old one.
    fn replace(&mut self, list: Vec<Mount>) -> BTreeSet<DeviceId> {
        let mut by_dev: HashMap<_, (usize, u64)> = HashMap::with_capacity(list.len());
        for (index, mount) in list.iter().enumerate() {
            let mut hasher = DefaultHasher::new();
            mount.hash(&mut hasher);
            let (_, hash) = by_dev.entry(mount.dev).or_insert((index, 0));
            *hash = hash.rotate_left(1) ^ hasher.finish();
        }
        let hash = |of: &HashMap<_, (usize, u64)>, dev| of.get(dev).map(|(_, hash)| *hash);
        let came_or_differ =
            by_dev.keys().filter(|dev| hash(&by_dev, dev) != hash(&self.by_dev, dev));
        let went = self.by_dev.keys().filter(|dev| !by_dev.contains_key(dev));
        let changed = came_or_differ.chain(went).copied().collect();
        self.list = list;
        self.generation += 1;
        self.by_dev = by_dev;
        changed
    }

    /// The mounts, in the kernel's order.
    pub(crate) fn all(&self) -> &[Mount] {
        &self.list
    }

    /// Changes when the mounts do.
    pub(crate) const fn generation(&self) -> u64 {
        self.generation
    }

    /// The first mount of a file system.
    pub(crate) fn first_of(&self, dev: DeviceId) -> Option<&Mount> {
        self.list.get(self.by_dev.get(&dev)?.0)
    }

    /// The mount that a path without symbolic links leads to.
    pub(super) fn at(&self, path: &Path) -> Option<&Mount> {
        mount_at(&self.list, path)
    }

    /// The device with this backing-device name; `None` if neither sysfs nor the mounts have it.
    /// Reads sysfs, so cache the result until the mounts change.
    ///
    /// A wait on a disk's own page cache has the same name as one on a file system of the disk, and
    /// is taken for the latter.
    pub(crate) fn by_bdi_name(&self, name: &str) -> Option<BackingDevice> {
        match name.parse() {
            Ok(dev) => self.mounted_on_disk(dev).or_else(|| self.without_block_device(dev)),
            Err(_) => self.btrfs_by_bdi(name),
        }
    }

    /// The device with a file system's number (`st_dev`) or a block device's number. Reads sysfs, so
    /// cache the result until the mounts change.
    pub(crate) fn by_dev(&self, dev: DeviceId) -> Option<BackingDevice> {
        let mount = self.first_of(dev);
        let fs = mount.map(|mount| mount.fs.clone());
        if let Some(device) = self.block_name(dev) {
            let disks = vec![self.disk_of(dev)];
            return Some(BackingDevice { device, dev, fs, disks, members: vec![dev] });
        }
        // btrfs has a device number of its own; its source is a device that it lies on.
        let source = mount.filter(|mount| mount.fs == "btrfs").and_then(|mount| self.source(mount));
        source.and_then(|source| self.btrfs_on(&source)).or_else(|| self.without_block_device(dev))
    }

    /// The block device with this name in the kernel.
    pub(crate) fn by_block_name(&self, name: &str) -> Option<BackingDevice> {
        if name.is_empty() || name.starts_with('.') {
            return None;
        }
        let folder = self.sysfs.join("class/block").join(sysfs::folder_name(name));
        let dev = sysfs::read_dev(&folder.join("dev"))?;
        let disks = vec![self.disk_of(dev)];
        Some(BackingDevice { device: name.to_owned(), dev, fs: None, disks, members: vec![dev] })
    }

    /// The only mounted device of a disk and its partitions; the disk if several are mounted.
    fn mounted_on_disk(&self, disk: DeviceId) -> Option<BackingDevice> {
        let device = self.block_name(disk)?;
        let partitions = sysfs::partitions(&sysfs::block_folder(&self.sysfs, disk));
        let mut members: BTreeSet<_> =
            partitions.filter_map(|folder| sysfs::read_dev(&folder.join("dev"))).collect();
        members.insert(disk);
        let mounted = || self.list.iter().filter(|mount| members.contains(&mount.dev));
        let devs: BTreeSet<_> = mounted().map(|mount| mount.dev).collect();
        let types: BTreeSet<_> = mounted().map(|mount| mount.fs.as_str()).collect();
        let fs = single(types).map(str::to_owned);
        let disks = vec![disk];
        Some(match single(devs) {
            Some(dev) => {
                let device = self.block_name(dev).unwrap_or(device);
                BackingDevice { device, dev, fs, disks, members: vec![dev] }
            }
            None => BackingDevice { device, dev: disk, fs, disks, members: vec![disk] },
        })
    }

    /// A mount without a block device, such as NFS: its name is the source (`server:/export`), or its
    /// number where the source tells nothing.
    fn without_block_device(&self, dev: DeviceId) -> Option<BackingDevice> {
        let Mount { fs, source, .. } = self.first_of(dev)?;
        let anonymous = source.is_empty() || source == "none" || source == fs;
        let device = if anonymous { dev.to_string() } else { source.clone() };
        let (disks, members) = (Vec::new(), Vec::new());
        Some(BackingDevice { device, dev, fs: Some(fs.clone()), disks, members })
    }

    /// The kernel's name of the device that a mount names as its source, which may be a node such as
    /// `/dev/mapper/data`.
    fn source(&self, mount: &Mount) -> Option<String> {
        let name = mount.source.strip_prefix("/dev/")?;
        let class = self.sysfs.join("class/block").join(sysfs::folder_name(name));
        if class.exists() {
            return Some(name.to_owned());
        }
        let node = std::fs::metadata(&mount.source).ok()?;
        self.block_name(sysfs::device_id(node.rdev()))
    }

    fn btrfs_by_bdi(&self, name: &str) -> Option<BackingDevice> {
        self.btrfs(|folder| sysfs::link_name(&folder.join("bdi")).is_some_and(|bdi| bdi == name))
    }

    /// The btrfs that the device of this name is part of.
    fn btrfs_on(&self, device: &str) -> Option<BackingDevice> {
        let device = sysfs::folder_name(device);
        self.btrfs(|folder| folder.join("devices").join(&device).exists())
    }

    /// The first btrfs whose folder below `fs/btrfs` is as wanted. Its device is its only one, else
    /// the one that is its mount's source.
    fn btrfs(&self, wanted: impl Fn(&Path) -> bool) -> Option<BackingDevice> {
        let all = sysfs::entries(&self.sysfs.join("fs/btrfs")).ok()?;
        let (_, folder) = all.into_iter().find(|(_, folder)| wanted(folder))?;
        let devices = sysfs::entries(&folder.join("devices")).ok()?;
        let mounted = || {
            let mounts = self.list.iter().filter(|mount| mount.fs == "btrfs");
            mounts.filter_map(|mount| self.source(mount)).find_map(|source| {
                devices.iter().find(|(name, _)| sysfs::kernel_name(name) == source)
            })
        };
        let (name, device) = match devices.as_slice() {
            [device] => device,
            _ => mounted().or_else(|| devices.first())?,
        };
        let members = devices.iter().filter_map(|(_, device)| sysfs::read_dev(&device.join("dev")));
        let members: Vec<_> = members.collect();
        Some(BackingDevice {
            device: sysfs::kernel_name(name),
            dev: sysfs::read_dev(&device.join("dev"))?,
            fs: Some("btrfs".to_owned()),
            disks: members.iter().map(|dev| self.disk_of(*dev)).collect(),
            members,
        })
    }

    /// The whole disk of a partition; any other device is its own disk.
    pub(crate) fn disk_of(&self, dev: DeviceId) -> DeviceId {
        let folder = sysfs::block_folder(&self.sysfs, dev);
        if !sysfs::is_partition(&folder) {
            return dev;
        }
        let disk = sysfs::whole_disk(&folder);
        disk.and_then(|disk| sysfs::read_dev(&disk.join("dev"))).unwrap_or(dev)
    }

    /// The kernel's name of a block device; `None` if no block device has the number.
    pub(crate) fn block_name(&self, dev: DeviceId) -> Option<String> {
        let link = sysfs::block_folder(&self.sysfs, dev);
        sysfs::link_name(&link).map(|name| sysfs::kernel_name(&name))
    }
}

/// The element of a set of one element.
fn single<T>(set: BTreeSet<T>) -> Option<T> {
    let mut elements = set.into_iter();
    elements.next().filter(|_| elements.next().is_none())
}

#[cfg(test)]
mod tests;
