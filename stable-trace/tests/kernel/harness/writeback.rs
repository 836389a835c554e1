//! Writeback on request.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;

use anyhow::{Result, ensure};

/// Starts writeback of the file's dirty pages and does not wait for it.
pub(crate) fn start_writeback(file: &File) -> Result<()> {
    // SAFETY: a system call on an open file; no memory is involved. rustix does not have it.
    let result =
        unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
    ensure!(result == 0, "sync_file_range: {}", io::Error::last_os_error());
    Ok(())
}
