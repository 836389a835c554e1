//! The block device below a path: whether it is a test disk, and whether anybody uses it.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, SeekFrom, fstat, major, minor, open, seek};
use rustix::io::Errno;

use super::error::WorkloadError;
use super::profile::Profile;
use super::scratch;

/// Disks stack (LVM on MD on NVMe …), but not deeper than this.
const DEEPEST: usize = 8;

/// Where the kernel describes devices and mounts; tests have their own.
struct Kernel<'a> {
    sys: &'a Path,
    mountinfo: &'a str,
}

/// `major:minor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Number(u32, u32);

impl Number {
    fn of(dev: u64) -> Self {
        Self(major(dev), minor(dev))
    }

    fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.trim().split_once(':')?;
        Some(Self(major.parse().ok()?, minor.parse().ok()?))
    }
}

/// Lets profile g go ahead on a disk that exists to be broken.
///
/// # Errors
/// [`WorkloadError::NotATestDisk`] with what is there instead.
pub fn require_test_disk(path: &Path) -> Result<(), WorkloadError> {
    let stat = scratch::stat(path)
        .map_err(|errno| WorkloadError::Path { path: path.to_owned(), errno })?;
    let is_device = FileType::from_raw_mode(stat.st_mode) == FileType::BlockDevice;
    let number = Number::of(if is_device { stat.st_rdev } else { stat.st_dev });
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let kernel = Kernel { sys: Path::new("/sys"), mountinfo: &mountinfo };
    let unknown = |reason: &str| WorkloadError::NotATestDisk {
        device: path.display().to_string(),
        reason: reason.to_owned(),
    };
    let directory = kernel.directory(number).or_else(|| {
        // btrfs and its like have device numbers of their own: ask the mount for its source.
        let source = source_of(&mountinfo, &fs::canonicalize(path).ok()?)?;
        kernel.directory(Number::of(scratch::stat(&source).ok()?.st_rdev))
    });
    let directory = directory.ok_or_else(|| unknown("no block device lies below it"))?;
    match not_a_test_disk(&directory, DEEPEST) {
        None => Ok(()),
        Some((device, reason)) => Err(WorkloadError::NotATestDisk { device, reason }),
    }
}

impl Kernel<'_> {
    /// The device's directory in sysfs; for a partition its disk's.
    fn directory(&self, Number(major, minor): Number) -> Option<PathBuf> {
        let directory =
            fs::canonicalize(self.sys.join(format!("dev/block/{major}:{minor}"))).ok()?;
        if directory.join("partition").exists() {
            return directory.parent().map(Path::to_owned);
        }
        Some(directory)
    }

    /// Who uses the device: a mount or a holder of it, of its disk or of one of its partitions.
    fn user(&self, number: Number) -> Option<String> {
        let Number(major, minor) = number;
        let own = fs::canonicalize(self.sys.join(format!("dev/block/{major}:{minor}"))).ok()?;
        let mut related = vec![own.clone()];
        if own.join("partition").exists() {
            related.extend(own.parent().map(Path::to_owned));
        } else {
            related.extend(children(&own).into_iter().filter(|dir| dir.join("partition").exists()));
        }
        related.iter().find_map(|directory| {
            let name = name_of(directory);
            if let Some(holder) = children(&directory.join("holders")).first() {
                return Some(format!("{} holds {name}", name_of(holder)));
            }
            let number = Number::parse(&fs::read_to_string(directory.join("dev")).ok()?)?;
            let mount = mount_of(self.mountinfo, number, &name)?;
            Some(format!("{name} is mounted on {mount}"))
        })
    }
}

/// Name and description of the first disk from here down that is not a test disk.
fn not_a_test_disk(disk: &Path, depth: usize) -> Option<(String, String)> {
    let name = name_of(disk);
    let below = children(&disk.join("slaves"));
    if !below.is_empty() && depth > 0 {
        return below.iter().find_map(|disk| {
            let disk = fs::canonicalize(disk).unwrap_or_else(|_| disk.clone());
            let disk = match disk.parent() {
                Some(parent) if disk.join("partition").exists() => parent.to_owned(),
                _ => disk,
            };
            not_a_test_disk(&disk, depth - 1)
        });
    }
    let model = fs::read_to_string(disk.join("device/model")).unwrap_or_default();
    let model = model.trim();
    let numbered = |prefix: &str| {
        name.strip_prefix(prefix)
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
    };
    // A loop device's file takes what it is given; null_blk keeps nothing, or memory.
    if numbered("loop") || numbered("nullb") {
        return None;
    }
    if model == "scsi_debug" || model == "QEMU NVMe Ctrl" {
        return None;
    }
    let reason = if model.is_empty() {
        "it has no model name".to_owned()
    } else {
        format!("its model is {model}")
    };
    Some((name, reason))
}

/// A whole block device that nobody else can mount or claim while this exists.
#[derive(Debug)]
pub struct Claim {
    path: PathBuf,
    exclusive: OwnedFd,
}

impl Claim {
    /// Claims the device for writing to its first `file_size` bytes.
    ///
    /// # Errors
    /// It is no block device, is too small, or it, its disk or one of its partitions is in use.
    pub fn new(path: &Path, file_size: u64) -> Result<Self, WorkloadError> {
        let failed = |errno| WorkloadError::Open { path: path.to_owned(), errno };
        let stat = scratch::stat(path).map_err(failed)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::BlockDevice {
            return Err(WorkloadError::NotABlockDevice(path.to_owned()));
        }
        let in_use = |user| WorkloadError::DeviceInUse { device: path.to_owned(), user };
        let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let kernel = Kernel { sys: Path::new("/sys"), mountinfo: &mountinfo };
        if let Some(user) = kernel.user(Number::of(stat.st_rdev)) {
            return Err(in_use(user));
        }
        // The kernel's own answer, which knows other mount namespaces and swap, too.
        let flags = OFlags::RDWR | OFlags::EXCL | OFlags::CLOEXEC;
        let exclusive = open(path, flags, Mode::empty()).map_err(|errno| match errno {
            Errno::BUSY => in_use("the kernel says so: a mount elsewhere, or swap".to_owned()),
            errno => failed(errno),
        })?;
        let opened = fstat(&exclusive).map_err(failed)?;
        if opened.st_rdev != stat.st_rdev {
            return Err(WorkloadError::Replaced(path.to_owned()));
        }
        let size = seek(&exclusive, SeekFrom::End(0)).map_err(failed)?;
        if size < file_size {
            return Err(WorkloadError::DeviceTooSmall { device: path.to_owned(), size, file_size });
        }
        Ok(Self { path: path.to_owned(), exclusive })
    }

    /// Opens the device once more, for one worker.
    ///
    /// # Errors
    /// It vanished, or there are too many open files.
    pub fn open(&self, profile: Profile) -> Result<OwnedFd, WorkloadError> {
        let mut flags = OFlags::RDWR | OFlags::CLOEXEC;
        if profile.uses_direct_io() {
            flags |= OFlags::DIRECT;
        }
        let failed = |errno| WorkloadError::Open { path: self.path.clone(), errno };
        let file = open(&self.path, flags, Mode::empty()).map_err(failed)?;
        let (ours, theirs) = (fstat(&self.exclusive), fstat(&file));
        match (ours, theirs) {
            (Ok(ours), Ok(theirs)) if ours.st_rdev == theirs.st_rdev => Ok(file),
            _ => Err(WorkloadError::Replaced(self.path.clone())),
        }
    }
}

fn name_of(directory: &Path) -> String {
    directory.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn children(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

/// One line of mountinfo (proc(5)): device number, mount point, source.
fn mounts(mountinfo: &str) -> impl Iterator<Item = (Option<Number>, PathBuf, PathBuf)> {
    mountinfo.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(2);
        let number = Number::parse(before.next()?);
        let point = PathBuf::from(unescape(before.nth(1)?));
        let source = PathBuf::from(unescape(after.split(' ').nth(1)?));
        Some((number, point, source))
    })
}

/// Blank, tab, newline and backslash stand as octal there.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// The device that the file system at `path` was mounted from.
fn source_of(mountinfo: &str, path: &Path) -> Option<PathBuf> {
    mounts(mountinfo)
        .filter(|(_, point, _)| path.starts_with(point))
        // Of two mounts on one point the later hides the earlier: `max_by_key` takes the last.
        .max_by_key(|(_, point, _)| point.components().count())
        .map(|(_, _, source)| source)
        .filter(|source| source.starts_with("/dev"))
}

/// Where a device is mounted, known by its number or by its name as the source.
fn mount_of(mountinfo: &str, number: Number, name: &str) -> Option<String> {
    let device = Path::new("/dev").join(name);
    mounts(mountinfo)
        .find(|(mounted, _, source)| *mounted == Some(number) || *source == device)
        .map(|(_, point, _)| point.display().to_string())
}

#[cfg(test)]
#[path = "device_tests.rs"]
mod tests;
