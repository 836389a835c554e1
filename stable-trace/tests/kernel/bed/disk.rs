//! Block devices.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::program;

/// Where a guest finds its disks.
pub const PI: &str = "LAB_PI_DISK";
/// See [`Disk::plain`].
pub const PLAIN: &str = "LAB_PLAIN_DISK";
/// See [`Disk::nvme_pi`].
pub const NVME_PI: &str = "LAB_NVME_PI";

/// A whole disk that a test may overwrite.
#[derive(Debug)]
pub struct Disk {
    /// `/dev/sda`.
    pub path: PathBuf,
    /// `sda`: the kernel's name, and the agent's.
    pub name: String,
    /// Keeps a loop device alive.
    held: Option<File>,
}

impl Disk {
    /// The SCSI debug disk: type 1, CRC, checked by host and device.
    pub fn pi() -> Result<Self> {
        Self::of_variable(PI)
    }

    /// A disk in memory without protection information (`null_blk`).
    pub fn plain() -> Result<Self> {
        Self::of_variable(PLAIN)
    }

    /// The emulated NVMe disk: type 1, CRC, 8 bytes of metadata a block of 4096.
    pub fn nvme_pi() -> Result<Self> {
        Self::of_variable(NVME_PI)
    }

    /// A loop device over a new file of `mib` MiB.
    pub fn looped(mib: u64) -> Result<Self> {
        let file =
            tempfile::NamedTempFile::new().context("cannot make a file for a loop device")?;
        file.as_file().set_len(mib << 20).context("cannot size a file for a loop device")?;
        // The device keeps the file; its name goes when this returns.
        Self::over(file.path(), false)
    }

    /// A loop device over another disk, which may use direct I/O.
    pub fn loop_over(disk: &Self, direct_io: bool) -> Result<Self> {
        Self::over(&disk.path, direct_io)
    }

    fn over(backing: &Path, direct_io: bool) -> Result<Self> {
        // Nothing loads the module by itself where nobody manages devices, as in a guest.
        if !Path::new("/dev/loop-control").exists() {
            program::run("modprobe", &["loop"])?;
        }
        let direct_io = if direct_io { "--direct-io=on" } else { "--direct-io=off" };
        let backing = backing.to_string_lossy();
        let path = program::run("losetup", &["--find", "--show", direct_io, &backing])?;
        let mut disk = Self::at(path.trim())?;
        let device = File::open(&disk.path)
            .with_context(|| format!("cannot open {}", disk.path.display()))?;
        // Detached now, it goes when its last user closes it: us, or a mount. Even a test that is
        // killed leaves none behind.
        program::run("losetup", &["--detach", path.trim()])?;
        disk.held = Some(device);
        Ok(disk)
    }

    fn of_variable(name: &str) -> Result<Self> {
        match std::env::var(name) {
            Ok(path) => Self::at(&path),
            Err(_) => bail!("{name} is not set: the test lacks its `Need`"),
        }
    }

    fn at(path: &str) -> Result<Self> {
        let path = PathBuf::from(path);
        let name = path.file_name().context("a disk has no name")?.to_string_lossy().into_owned();
        Ok(Self { path, name, held: None })
    }

    /// An attribute below `/sys/block/NAME`, such as `queue/stable_writes`; none where there is no
    /// such file.
    pub fn attribute(&self, name: &str) -> Option<String> {
        let text = fs::read_to_string(self.attribute_path(name)).ok()?;
        Some(text.trim().to_owned())
    }

    /// Sets an attribute.
    pub fn set_attribute(&self, name: &str, value: &str) -> Result<()> {
        let path = self.attribute_path(name);
        fs::write(&path, value)
            .with_context(|| format!("cannot write {value} to {}", path.display()))
    }

    /// Its size, in 512-byte sectors.
    pub fn sectors(&self) -> Result<u64> {
        let sectors = self.attribute("size").context("a disk without a size")?;
        sectors.parse().with_context(|| format!("{} has {sectors:?} sectors", self.name))
    }

    /// `T10-DIF-TYPE1-CRC`, `none`, or nothing.
    pub fn integrity_format(&self) -> Option<String> {
        self.attribute("integrity/format")
    }

    fn attribute_path(&self, name: &str) -> PathBuf {
        Path::new("/sys/block").join(&self.name).join(name)
    }
}
