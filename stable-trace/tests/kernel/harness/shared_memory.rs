//! Shared mappings.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;

use anyhow::{Result, ensure};

/// Bytes of a page.
pub(crate) const PAGE: usize = 4096;

/// Memory that is shared through a mapping.
#[derive(Debug)]
pub(crate) struct SharedMemory {
    start: *mut libc::c_void,
    bytes: usize,
}

// SAFETY: the memory is only stored to byte by byte, or used by system calls. No reference to it exists.
unsafe impl Sync for SharedMemory {}

impl SharedMemory {
    /// Maps this number of pages without a file.
    pub(crate) fn anonymous(pages: usize) -> Result<Self> {
        Self::map(pages, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1)
    }

    /// Maps the first pages of a file.
    pub(crate) fn of(file: &File, pages: usize) -> Result<Self> {
        Self::map(pages, libc::MAP_SHARED, file.as_raw_fd())
    }

    fn map(pages: usize, flags: libc::c_int, file: libc::c_int) -> Result<Self> {
        let bytes = pages * PAGE;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping, which replaces no other.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags, file, 0) };
        ensure!(start != libc::MAP_FAILED, "mmap: {}", io::Error::last_os_error());
        Ok(Self { start, bytes })
    }

    /// Writes all changed pages to the file, and waits for that.
    pub(crate) fn sync(&self) -> Result<()> {
        // SAFETY: the mapping lives.
        let done = unsafe { libc::msync(self.start, self.bytes, libc::MS_SYNC) };
        ensure!(done == 0, "msync: {}", io::Error::last_os_error());
        Ok(())
    }

    /// Starts to write all pages to the swap area. Those that are being written stay in memory until then.
    pub(crate) fn swap_out(&self) -> Result<()> {
        self.advise(libc::MADV_PAGEOUT)
    }

    /// Drops the mapping's pages, so that the next access to each faults. A file keeps its content.
    pub(crate) fn unmap_pages(&self) -> Result<()> {
        self.advise(libc::MADV_DONTNEED)
    }

    fn advise(&self, advice: libc::c_int) -> Result<()> {
        // SAFETY: the mapping lives, and the next access maps its pages again.
        let done = unsafe { libc::madvise(self.start, self.bytes, advice) };
        ensure!(done == 0, "madvise: {}", io::Error::last_os_error());
        Ok(())
    }

    /// `read()` from a file into the mapping: the kernel stores to the mapping.
    pub(crate) fn read_from(&self, file: &File) -> Result<()> {
        // SAFETY: the mapping lives, is that long, and nothing else refers to it.
        let done = unsafe { libc::pread(file.as_raw_fd(), self.start, self.bytes, 0) };
        ensure!(done == self.bytes.cast_signed(), "pread: {}", io::Error::last_os_error());
        Ok(())
    }

    /// `write()` to a file from the mapping: the kernel loads from the mapping within the write.
    pub(crate) fn write_to(&self, file: &File) -> Result<()> {
        // SAFETY: the mapping lives and is that long.
        let done = unsafe { libc::pwrite(file.as_raw_fd(), self.start, self.bytes, 0) };
        ensure!(done == self.bytes.cast_signed(), "pwrite: {}", io::Error::last_os_error());
        Ok(())
    }

    /// Stores a byte to each page.
    pub(crate) fn write(&self, byte: u8) {
        for page in 0..self.bytes / PAGE {
            // SAFETY: the place is inside the mapping, and nothing refers to it.
            unsafe { self.start.cast::<u8>().add(page * PAGE).write_volatile(byte) };
        }
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        // SAFETY: `map` created the mapping, and no reference to it is left.
        unsafe { libc::munmap(self.start, self.bytes) };
    }
}
