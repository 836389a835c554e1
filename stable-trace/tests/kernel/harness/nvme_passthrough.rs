//! Commands that are passed through to an NVMe disk, with protection information of the caller.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsRawFd as _;

use anyhow::{Context as _, Result};

use super::disk::Disk;

/// `struct nvme_user_io` (`include/uapi/linux/nvme_ioctl.h`).
#[repr(C)]
struct UserIo {
    opcode: u8,
    flags: u8,
    control: u16,
    /// Less one.
    nblocks: u16,
    rsvd: u16,
    metadata: u64,
    addr: u64,
    slba: u64,
    dsmgmt: u32,
    reftag: u32,
    apptag: u16,
    appmask: u16,
}

/// `_IOW('N', 0x42, struct nvme_user_io)`.
const NVME_IOCTL_SUBMIT_IO: libc::Ioctl = 0x4030_4e42;

/// `nvme_cmd_write` (include/linux/nvme.h).
const WRITE: u8 = 1;

/// `NVME_RW_PRINFO_PRCHK_GUARD >> 16`: the controller checks the guard (include/linux/nvme.h).
const CHECK_GUARD: u16 = 1 << 12;

/// Writes one block with this tuple. Returns the status of the command: 0 if the controller took it.
pub(crate) fn write_with_tuple(
    disk: &Disk,
    block: u64,
    data: &[u8],
    tuple: [u8; 8],
) -> Result<i32> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&disk.path)
        .with_context(|| format!("cannot open {}", disk.path.display()))?;
    let command = UserIo {
        opcode: WRITE,
        flags: 0,
        control: CHECK_GUARD,
        nblocks: 0,
        rsvd: 0,
        metadata: tuple.as_ptr() as u64,
        addr: data.as_ptr() as u64,
        slba: block,
        dsmgmt: 0,
        reftag: 0,
        apptag: 0,
        appmask: 0,
    };
    // SAFETY: the command, the data and the tuple outlive the call, and the driver only reads them.
    let status = unsafe { libc::ioctl(file.as_raw_fd(), NVME_IOCTL_SUBMIT_IO, &raw const command) };
    if status < 0 {
        return Err(io::Error::last_os_error()).context("cannot pass a command through");
    }
    Ok(status)
}
