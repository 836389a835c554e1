//! Attaches and detaches loop devices (loop(4), include/uapi/linux/loop.h).

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::fd::{AsRawFd as _, RawFd},
    path::{Path, PathBuf},
    time::Duration,
};

use libc::Ioctl;

use super::process::wait_until;
use crate::kernel::sysfs;

const LOOP_CLR_FD: Ioctl = 0x4c01;
const LOOP_CONFIGURE: Ioctl = 0x4c0a;
const LOOP_CTL_REMOVE: Ioctl = 0x4c81;
const LOOP_CTL_GET_FREE: Ioctl = 0x4c82;

/// The kernel detaches the file when the device is closed for the last time, also by a killed
/// process.
const LO_FLAGS_AUTOCLEAR: u32 = 4;

/// Number of attempts: another process may take the free device first.
const MAX_ATTEMPTS: u32 = 64;

/// How long to wait until a device is detached.
const DETACH_TIMEOUT: Duration = Duration::from_secs(10);

/// `struct loop_config` with its `struct loop_info64`. Unused members are merged into arrays.
#[repr(C)]
struct Config {
    fd: u32,
    block_size: u32,
    /// Device, inode, rdevice, offset, size limit.
    numbers: [u64; 5],
    /// Number, encryption type, key size.
    more_numbers: [u32; 3],
    flags: u32,
    /// File name, encryption name, key, `lo_init`.
    names: [u8; 64 + 64 + 32 + 16],
    reserved: [u64; 8],
}

const _: () = assert!(size_of::<Config>() == 304);

/// The number of a free device, and whether it existed before the call.
fn find_free() -> io::Result<(u32, bool)> {
    let control = control()?;
    let before = sysfs::entries(Path::new("/sys/block"))?;
    let number = ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE, 0)?;
    let number = u32::try_from(number).map_err(io::Error::other)?;
    Ok((number, before.iter().any(|(name, _)| *name == name_of(number))))
}

/// Attaches a free device to `file`, after it has called `before_attach` with the device's number
/// and whether the device existed. The device stays attached as long as it is open or mounted.
pub(super) fn attach(
    file: &File,
    mut before_attach: impl FnMut(u32, bool) -> io::Result<()>,
) -> io::Result<(u32, File)> {
    for _ in 0..MAX_ATTEMPTS {
        let (number, existed) = find_free()?;
        before_attach(number, existed)?;
        let path = path_of(number);
        // The device is read-only unless LOOP_CONFIGURE gets a descriptor for writing. That
        // descriptor is closed afterwards, because without CONFIG_BLK_DEV_WRITE_MOUNTED it prevents
        // a mount.
        let writing = OpenOptions::new().read(true).write(true).open(&path)?;
        let mut config = Config {
            fd: u32::try_from(file.as_raw_fd()).map_err(io::Error::other)?,
            block_size: 0,
            numbers: [0; 5],
            more_numbers: [0; 3],
            flags: LO_FLAGS_AUTOCLEAR,
            names: [0; 176],
            reserved: [0; 8],
        };
        // The file name that losetup shows.
        let link = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        let name = link.as_os_str().as_encoded_bytes();
        let length = name.len().min(63);
        config.names[..length].copy_from_slice(&name[..length]);
        match ioctl(writing.as_raw_fd(), LOOP_CONFIGURE, (&raw const config) as libc::c_ulong) {
            Ok(_) => return File::open(&path).map(|device| (number, device)),
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::ResourceBusy.into())
}

pub(super) fn name_of(number: u32) -> String {
    format!("loop{number}")
}

pub(super) fn path_of(number: u32) -> PathBuf {
    Path::new("/dev").join(name_of(number))
}

/// Detaches a device if it is attached to `file`, and waits until it is. Removes the device if it
/// did not exist before. Returns whether it was attached.
pub(super) fn detach(number: u32, file: &Path, existed: bool) -> io::Result<bool> {
    let folder = sysfs::disk_folder(Path::new("/sys"), &name_of(number));
    let is_attached = || {
        let backing = sysfs::loop_backing_file(&folder).unwrap_or_default();
        Path::new(backing.strip_suffix(" (deleted)").unwrap_or(&backing)) == file
    };
    let was_attached = is_attached();
    if was_attached {
        match File::open(path_of(number)) {
            // Fails if LO_FLAGS_AUTOCLEAR has detached the device meanwhile.
            Ok(device) => drop(ioctl(device.as_raw_fd(), LOOP_CLR_FD, 0)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        if !wait_until(DETACH_TIMEOUT, || !is_attached()) {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
    }
    if !existed && folder.exists() {
        // Fails if another process uses the device by now.
        let _ = ioctl(control()?.as_raw_fd(), LOOP_CTL_REMOVE, libc::c_ulong::from(number));
    }
    Ok(was_attached)
}

fn control() -> io::Result<File> {
    const CONTROL: &str = "/dev/loop-control";
    let open = || OpenOptions::new().read(true).write(true).open(CONTROL);
    open().or_else(|error| {
        // Without udev the node exists only after the module is loaded.
        match std::process::Command::new("modprobe").arg("loop").status() {
            Ok(status) if status.success() => open(),
            _ => Err(error),
        }
    })
}

fn ioctl(fd: RawFd, request: Ioctl, argument: libc::c_ulong) -> io::Result<i32> {
    // SAFETY: of the requests above only LOOP_CONFIGURE takes an address, at which the kernel reads
    // the `Config` that the caller has borrowed. The others take a number.
    let result = unsafe { libc::ioctl(fd, request, argument) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
