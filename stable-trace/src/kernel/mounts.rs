//! From a backing device's name, as the tracepoints give it, to a device and a file system.
//!
//! The `name` of `writeback:folio_wait_writeback` is that of the backing-device info
//! (`bdi_dev_name`, mm/backing-dev.c, 6.12). For a block device that is `major:minor` of the whole
//! disk (`bdi_register(disk->bdi, "%u:%u", disk->major, disk->first_minor)`, block/genhd.c), for
//! btrfs `btrfs-N` (`super_setup_bdi_name`, fs/btrfs/super.c), for NFS and its like the `0:N` of the
//! mount. So a partition must be found by who is mounted.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Read, Seek},
    path::{Path, PathBuf},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use stable_trace_analysis::units::DeviceId;

use super::sysfs;

/// What is mounted in our mount namespace; another container's mounts are not in it.
const MOUNTINFO: &str = "/proc/self/mountinfo";

/// Why the mounts are not known.
#[derive(Debug, thiserror::Error)]
pub enum MountsError {
    /// The list cannot be read.
    #[error("cannot read {MOUNTINFO}: {0}; is /proc mounted?")]
    Read(#[source] io::Error),
}

/// One line of mountinfo, as far as we need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// `st_dev` of the files on it.
    pub dev: DeviceId,
    /// Where it is mounted.
    pub point: String,
    /// Type of the file system.
    pub fs: String,
    /// What the file system calls its source, such as `/dev/sda1`.
    pub source: String,
}

/// What is behind a backing-device name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backing {
    /// The kernel's name of the device; a partition's only where no other of its disk is mounted.
    pub device: String,
    /// Its number.
    pub dev: DeviceId,
    /// Type of the file system, where there is just one.
    pub fs: Option<String>,
    /// Every whole disk that it lies on; empty where there is none (NFS).
    pub disks: Vec<DeviceId>,
}

/// The mounted file systems.
#[derive(Debug)]
pub struct Mounts {
    sysfs: PathBuf,
    list: Vec<Mount>,
    /// Open while we live: the kernel keeps in it what we have seen. Absent in tests.
    file: Option<File>,
}

impl Mounts {
    /// Reads the mounts of this process.
    ///
    /// # Errors
    /// [`MountsError::Read`] if the list cannot be read.
    pub fn load() -> Result<Self, MountsError> {
        Self::open(Path::new(MOUNTINFO))
    }

    fn open(mountinfo: &Path) -> Result<Self, MountsError> {
        let file = File::open(mountinfo).map_err(MountsError::Read)?;
        let mut mounts = Self { sysfs: PathBuf::from("/sys"), list: Vec::new(), file: Some(file) };
        mounts.read()?;
        Ok(mounts)
    }

    /// Takes the text of a mountinfo and a sysfs that goes with it.
    #[must_use]
    pub fn from_text(mountinfo: &str, sysfs: &Path) -> Self {
        Self { sysfs: sysfs.to_owned(), list: parse(mountinfo), file: None }
    }

    /// Whether anything was mounted or unmounted since this was last asked (`mounts_poll`,
    /// `fs/proc_namespace.c`, 6.12): one system call that does not wait.
    #[must_use]
    pub fn changed(&self) -> bool {
        let Some(file) = &self.file else { return false };
        let mut fds = [PollFd::new(file, PollFlags::PRI | PollFlags::ERR)];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let changed = PollFlags::PRI | PollFlags::ERR;
        poll(&mut fds, Some(&at_once)).is_ok_and(|_| fds[0].revents().intersects(changed))
    }

    /// Reads the mounts again if any [`changed`](Self::changed); says whether it did.
    ///
    /// # Errors
    /// [`MountsError::Read`] if the list cannot be read; what was known before stays.
    pub fn refresh(&mut self) -> Result<bool, MountsError> {
        let changed = self.changed();
        if changed {
            self.read()?;
        }
        Ok(changed)
    }

    fn read(&mut self) -> Result<(), MountsError> {
        if let Some(file) = &mut self.file {
            let mut bytes = Vec::new();
            file.rewind().and_then(|()| file.read_to_end(&mut bytes)).map_err(MountsError::Read)?;
            self.list = parse(&String::from_utf8_lossy(&bytes));
        }
        Ok(())
    }

    /// The mounts, in the kernel's order.
    #[must_use]
    pub fn all(&self) -> &[Mount] {
        &self.list
    }

    /// The device and the file system behind a backing-device name; nothing if neither sysfs nor
    /// the mounts know it. Reads sysfs, so keep the answer until the mounts change.
    ///
    /// A wait on a disk's own page cache has the same name as one on a file system of it, and is
    /// taken for the latter.
    #[must_use]
    pub fn backing(&self, name: &str) -> Option<Backing> {
        match name.parse() {
            Ok(dev) => self.disk(dev).or_else(|| self.anonymous(dev)),
            Err(_) => self.btrfs(name),
        }
    }

    /// The device behind a file system's own number (`st_dev`), or behind a block device's. Reads
    /// sysfs, so keep the answer until the mounts change.
    #[must_use]
    pub fn by_dev(&self, dev: DeviceId) -> Option<Backing> {
        let mount = self.list.iter().find(|mount| mount.dev == dev);
        let fs = mount.map(|mount| mount.fs.clone());
        if let Some(device) = self.block_name(dev) {
            let disks = vec![self.disk_of(dev)];
            return Some(Backing { device, dev, fs, disks });
        }
        // btrfs and its like have a number of their own; their source says what they lie on.
        let source = mount?.source.strip_prefix("/dev/");
        source.and_then(|source| self.btrfs_on(source)).or_else(|| self.anonymous(dev))
    }

    /// A disk: the only mounted one of it and its partitions, else itself.
    fn disk(&self, dev: DeviceId) -> Option<Backing> {
        let device = self.block_name(dev)?;
        let mut family = self.partitions(dev);
        family.insert(dev);
        let mounted = || self.list.iter().filter(|mount| family.contains(&mount.dev));
        let devs: BTreeSet<_> = mounted().map(|mount| mount.dev).collect();
        let kinds: BTreeSet<_> = mounted().map(|mount| mount.fs.as_str()).collect();
        let fs = only(kinds).map(str::to_owned);
        match only(devs) {
            Some(only) => Some(Backing {
                device: self.block_name(only).unwrap_or(device),
                dev: only,
                fs,
                disks: vec![dev],
            }),
            None => Some(Backing { device, dev, fs, disks: vec![dev] }),
        }
    }

    /// The partitions of a disk. From the kernel's number space they cannot be told: past the
    /// 16th they get numbers of the extended space (`blk_alloc_ext_minor`, block/genhd.c).
    fn partitions(&self, dev: DeviceId) -> BTreeSet<DeviceId> {
        let folder = sysfs::block_folder(&self.sysfs, dev);
        std::fs::read_dir(folder)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.join("partition").exists())
            .filter_map(|path| sysfs::read_dev(&path.join("dev")))
            .collect()
    }

    /// A mount without a block device, such as NFS: its source is no device, so `dev` serves.
    fn anonymous(&self, dev: DeviceId) -> Option<Backing> {
        let mount = self.list.iter().find(|mount| mount.dev == dev)?;
        let fs = Some(mount.fs.clone());
        Some(Backing { device: dev.to_string(), dev, fs, disks: Vec::new() })
    }

    /// The btrfs whose `bdi` link ends in the name: its only device, else the mounted source.
    fn btrfs(&self, name: &str) -> Option<Backing> {
        let home = std::fs::read_dir(self.sysfs.join("fs/btrfs"))
            .ok()?
            .flatten()
            .map(|entry| entry.path())
            .find(|path| sysfs::link_name(&path.join("bdi")).is_some_and(|bdi| bdi == name))?;
        self.btrfs_in(&home)
    }

    /// The btrfs that a device of this name is part of.
    fn btrfs_on(&self, device: &str) -> Option<Backing> {
        let homes = std::fs::read_dir(self.sysfs.join("fs/btrfs")).ok()?.flatten();
        let home = homes
            .map(|entry| entry.path())
            .find(|path| path.join("devices").join(device.replace('/', "!")).exists())?;
        self.btrfs_in(&home)
    }

    /// The btrfs of a directory below `fs/btrfs`.
    fn btrfs_in(&self, home: &Path) -> Option<Backing> {
        let mut devices: Vec<_> = std::fs::read_dir(home.join("devices"))
            .ok()?
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        devices.sort_unstable();
        let mounted = || {
            let sources = self.list.iter().filter(|mount| mount.fs == "btrfs");
            sources.filter_map(|mount| mount.source.strip_prefix("/dev/")).find_map(|source| {
                devices.iter().find(|device| sysfs::kernel_name(device) == source)
            })
        };
        let device = match devices.as_slice() {
            [only] => only,
            _ => mounted().or_else(|| devices.first())?,
        };
        let dev_of =
            |device: &String| sysfs::read_dev(&home.join("devices").join(device).join("dev"));
        let members = devices.iter().filter_map(dev_of);
        Some(Backing {
            device: sysfs::kernel_name(device),
            dev: dev_of(device)?,
            fs: Some("btrfs".to_owned()),
            disks: members.map(|dev| self.disk_of(dev)).collect(),
        })
    }

    /// The whole disk of a partition; any other device is its own.
    pub(super) fn disk_of(&self, dev: DeviceId) -> DeviceId {
        let folder = sysfs::block_folder(&self.sysfs, dev);
        if !folder.join("partition").exists() {
            return dev;
        }
        // The link leads to the partition's own directory, which lies in its disk's.
        let disk = folder.canonicalize().ok().and_then(|path| path.parent().map(Path::to_owned));
        disk.and_then(|disk| sysfs::read_dev(&disk.join("dev"))).unwrap_or(dev)
    }

    /// The kernel's name of a block device; nothing if there is none of that number.
    #[must_use]
    pub fn block_name(&self, dev: DeviceId) -> Option<String> {
        let link = sysfs::block_folder(&self.sysfs, dev);
        sysfs::link_name(&link).map(|name| sysfs::kernel_name(&name))
    }
}

/// The element of a set that has just one.
fn only<T>(set: BTreeSet<T>) -> Option<T> {
    let mut elements = set.into_iter();
    elements.next().filter(|_| elements.next().is_none())
}

/// The mounts of a mountinfo (`show_mountinfo`, `fs/proc_namespace.c`, 6.12); a line that is not
/// understood is left out.
#[must_use]
pub fn parse(mountinfo: &str) -> Vec<Mount> {
    mountinfo.lines().filter_map(parse_line).collect()
}

/// `ID PARENT MAJ:MIN ROOT POINT OPTIONS [TAGS…] - FS SOURCE SUPER_OPTIONS`.
fn parse_line(line: &str) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    let mut before = before.split(' ').skip(2);
    let dev = before.next()?.parse().ok()?;
    let point = unescape(before.nth(1)?);
    let mut after = after.split(' ');
    Some(Mount {
        dev,
        point,
        fs: unescape(after.next()?),
        source: unescape(after.next().unwrap_or_default()),
    })
}

/// Undoes `mangle_path` (`fs/seq_file.c`): a space, a tab, a line end, a backslash and a hash stand
/// as three octal digits.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        if let [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..] = rest {
            bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
            rest = tail;
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests;
