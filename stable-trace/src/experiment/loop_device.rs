//! Loop devices, by the kernel's own interface (loop(4), include/uapi/linux/loop.h).

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

/// The device lets go of its file when its last user does: also of one that was killed.
const LO_FLAGS_AUTOCLEAR: u32 = 4;

/// How often a free device is asked for: another process may be faster.
const TRIES: u32 = 64;

/// How long a device may take to let go of its file.
const CLEAR: Duration = Duration::from_secs(10);

/// `struct loop_config`, with its `struct loop_info64`: 304 bytes, of which few are set.
#[repr(C)]
struct Config {
    fd: u32,
    block_size: u32,
    /// Device, inode, rdevice, offset, size limit.
    numbers: [u64; 5],
    /// Number, encryption type, size of its key.
    more_numbers: [u32; 3],
    flags: u32,
    /// File name, encryption name, key, `lo_init`.
    names: [u8; 64 + 64 + 32 + 16],
    reserved: [u64; 8],
}

const _: () = assert!(size_of::<Config>() == 304);

/// The number of a device that is free now, and whether it was there before it was asked for.
pub fn free() -> io::Result<(u32, bool)> {
    let control = control()?;
    let before = sysfs::entries(Path::new("/sys/block"))?;
    let number = ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE, 0)?;
    let number = u32::try_from(number).map_err(io::Error::other)?;
    Ok((number, before.iter().any(|(name, _)| *name == name_of(number))))
}

/// Gives a file to a device; `claim` is told the device before, and whether it was there. The
/// device keeps the file for as long as it is open or mounted.
pub fn over(
    file: &File,
    mut claim: impl FnMut(u32, bool) -> io::Result<()>,
) -> io::Result<(u32, File)> {
    for _ in 0..TRIES {
        let (number, was_there) = free()?;
        claim(number, was_there)?;
        let path = path_of(number);
        // One that is open for reading only would be read-only; one that stays open for writing
        // keeps some kernels from mounting it (CONFIG_BLK_DEV_WRITE_MOUNTED).
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
        // The name that losetup shows.
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

/// The kernel's name of a device.
pub fn name_of(number: u32) -> String {
    format!("loop{number}")
}

/// Its node.
pub fn path_of(number: u32) -> PathBuf {
    Path::new("/dev").join(name_of(number))
}

/// Has a device let go of `file`, if that is what it has, waits for it, and removes the device if it
/// was not there before. Returns whether there was anything to do.
///
/// # Errors
/// Somebody still uses it.
pub fn detach(number: u32, file: &Path, was_there: bool) -> io::Result<bool> {
    let folder = sysfs::disk_folder(Path::new("/sys"), &name_of(number));
    let holds = || {
        let backing = sysfs::loop_backing_file(&folder).unwrap_or_default();
        Path::new(backing.strip_suffix(" (deleted)").unwrap_or(&backing)) == file
    };
    let held = holds();
    if held {
        match File::open(path_of(number)) {
            // Marked to be cleared by its last user, it may have been cleared meanwhile.
            Ok(device) => drop(ioctl(device.as_raw_fd(), LOOP_CLR_FD, 0)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        if !wait_until(CLEAR, || !holds()) {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
    }
    if !was_there && folder.exists() {
        // Somebody may use it by now: then it stays.
        let _ = ioctl(control()?.as_raw_fd(), LOOP_CTL_REMOVE, libc::c_ulong::from(number));
    }
    Ok(held)
}

fn control() -> io::Result<File> {
    const CONTROL: &str = "/dev/loop-control";
    let open = || OpenOptions::new().read(true).write(true).open(CONTROL);
    open().or_else(|error| {
        // Where nobody manages devices the node comes with the module.
        match std::process::Command::new("modprobe").arg("loop").status() {
            Ok(status) if status.success() => open(),
            _ => Err(error),
        }
    })
}

fn ioctl(fd: RawFd, request: Ioctl, argument: libc::c_ulong) -> io::Result<i32> {
    // SAFETY: of the requests above only LOOP_CONFIGURE takes an address: the kernel reads a whole
    // `Config` there, which the caller has borrowed. The others take a number.
    let result = unsafe { libc::ioctl(fd, request, argument) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
