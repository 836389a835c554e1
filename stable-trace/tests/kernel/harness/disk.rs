//! Block devices.

use std::fs::{self, File, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use rustix::fs::{major, minor};
use stable_trace_analysis::units::DeviceId;

use super::program;

// A guest has its disks' paths in these variables.
pub(crate) const PI: &str = "LAB_PI_DISK";
pub(crate) const PLAIN: &str = "LAB_PLAIN_DISK";
pub(crate) const NVME_PI: &str = "LAB_NVME_PI";

/// A whole disk that a test may overwrite.
#[derive(Debug)]
pub(crate) struct Disk {
    /// `/dev/sda`.
    pub(crate) path: PathBuf,
    /// `sda`: the kernel's name, which the agent reports.
    pub(crate) name: String,
    /// Keeps a loop device attached.
    loop_device: Option<File>,
}

impl Disk {
    /// The SCSI debug disk: type 1, CRC, checked by host and device.
    pub(crate) fn pi() -> Result<Self> {
        Self::from_variable(PI)
    }

    /// A disk in memory without protection information (`null_blk`).
    pub(crate) fn plain() -> Result<Self> {
        Self::from_variable(PLAIN)
    }

    /// The emulated NVMe disk: type 1, CRC, 8 bytes of metadata a block of 4096.
    pub(crate) fn nvme_pi() -> Result<Self> {
        Self::from_variable(NVME_PI)
    }

    /// A loop device over a new file of `mib` MiB.
    pub(crate) fn loop_device(mib: u64) -> Result<Self> {
        let file =
            tempfile::NamedTempFile::new().context("cannot create a file for a loop device")?;
        file.as_file().set_len(mib << 20).context("cannot size a file for a loop device")?;
        // The device keeps the file open; dropping `file` removes only its name.
        Self::loop_device_over(file.path(), false)
    }

    /// A loop device over another disk.
    pub(crate) fn loop_over(disk: &Self, direct_io: bool) -> Result<Self> {
        Self::loop_device_over(&disk.path, direct_io)
    }

    /// A loop device over a file.
    pub(crate) fn loop_on_file(file: &Path) -> Result<Self> {
        Self::loop_device_over(file, false)
    }

    fn loop_device_over(backing: &Path, direct_io: bool) -> Result<Self> {
        // Without udev, as in a guest, nothing loads the module on demand.
        if !Path::new("/dev/loop-control").exists() {
            program::run("modprobe", &["loop"])?;
        }
        let direct_io = if direct_io { "--direct-io=on" } else { "--direct-io=off" };
        let backing = backing.to_string_lossy();
        let path = program::run("losetup", &["--find", "--show", direct_io, &backing])?;
        let mut disk = Self::at(path.trim())?;
        let device = File::open(&disk.path)
            .with_context(|| format!("cannot open {}", disk.path.display()))?;
        // The kernel detaches the device when its last user closes it: this file or a mount. Even
        // a killed test leaves no loop device attached.
        program::run("losetup", &["--detach", path.trim()])?;
        disk.loop_device = Some(device);
        Ok(disk)
    }

    /// A disk by its name in the kernel, such as `dm-0`.
    pub(crate) fn named(name: &str) -> Result<Self> {
        Self::at(&format!("/dev/{name}"))
    }

    fn from_variable(name: &str) -> Result<Self> {
        match std::env::var(name) {
            Ok(path) => Self::at(&path),
            Err(_) => bail!("{name} is not set: the test lacks its `Requirement`"),
        }
    }

    fn at(path: &str) -> Result<Self> {
        let path = PathBuf::from(path);
        let name = path.file_name().context("the path of a disk has no file name")?;
        let name = name.to_string_lossy().into_owned();
        Ok(Self { path, name, loop_device: None })
    }

    /// Reads an attribute below `/sys/block/NAME`, such as `queue/stable_writes`. `None` where
    /// there is no such file.
    pub(crate) fn attribute(&self, name: &str) -> Option<String> {
        let text = fs::read_to_string(attribute_path(&self.name, name)).ok()?;
        Some(text.trim().to_owned())
    }

    pub(crate) fn set_attribute(&self, name: &str, value: &str) -> Result<()> {
        Self::set_attribute_of(&self.name, name, value)
    }

    /// Sets an attribute of the disk with this name.
    pub(crate) fn set_attribute_of(disk: &str, name: &str, value: &str) -> Result<()> {
        let path = attribute_path(disk, name);
        fs::write(&path, value)
            .with_context(|| format!("cannot write {value} to {}", path.display()))
    }

    /// The disk's number, as `MAJOR:MINOR`.
    pub(crate) fn dev(&self) -> Result<String> {
        self.attribute("dev").with_context(|| format!("{} has no device number", self.name))
    }

    /// Size in 512-byte sectors.
    pub(crate) fn sectors(&self) -> Result<u64> {
        let sectors =
            self.attribute("size").with_context(|| format!("{} has no size", self.name))?;
        sectors.parse().with_context(|| format!("{} has {sectors:?} sectors", self.name))
    }

    /// `T10-DIF-TYPE1-CRC`, `none`, or nothing.
    pub(crate) fn integrity_format(&self) -> Option<String> {
        self.attribute("integrity/format")
    }
}

/// The device of a file's file system, as `stat` gives it.
pub(crate) fn device_of(metadata: &Metadata) -> DeviceId {
    let dev = metadata.dev();
    DeviceId::new(major(dev), minor(dev))
}

fn attribute_path(disk: &str, name: &str) -> PathBuf {
    Path::new("/sys/block").join(disk).join(name)
}
