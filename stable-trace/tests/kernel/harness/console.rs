//! The log level of the kernel's console.

use anyhow::Result;

use super::kernel_file::KernelFile;

/// Limits the console to emergencies until it is dropped; the log keeps every message. 5.10's
/// `scsi_debug` prints each sector that fails its check, and a serial line is too slow for that.
#[derive(Debug)]
pub(crate) struct QuietConsole {
    _levels: KernelFile,
}

impl QuietConsole {
    pub(crate) fn new() -> Result<Self> {
        // The first of four levels is the console's.
        Ok(Self { _levels: KernelFile::set("/proc/sys/kernel/printk", "1")? })
    }
}
