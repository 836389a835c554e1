//! Page-aligned memory that other threads and the disk read while it is written. It is accessed
//! through raw pointers and atomic stores only; no Rust reference to its bytes exists.

use std::ffi::c_void;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rustix::io::Errno;
use rustix::mm::{MapFlags, MsyncFlags, ProtFlags, mmap, mmap_anonymous, msync, munmap};

use super::error::WorkloadError;

/// A memory mapping. Offsets and lengths are in bytes.
pub(super) struct Region {
    start: *mut c_void,
    len: usize,
}

// SAFETY: the memory is accessed through atomics and system calls only.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    /// Maps zeroed private memory. Its alignment suits `O_DIRECT`.
    pub(super) fn anonymous(len: usize) -> Result<Self, WorkloadError> {
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address that the kernel chooses overlaps no other.
        let start = unsafe { mmap_anonymous(ptr::null_mut(), len, prot, MapFlags::PRIVATE) }
            .map_err(|source| WorkloadError::Map { bytes: len, source })?;
        Ok(Self { start, len })
    }

    /// Maps the first `len` bytes of a file, shared.
    pub(super) fn of_file(file: impl AsFd, len: usize) -> Result<Self, WorkloadError> {
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address that the kernel chooses overlaps no other.
        let start = unsafe { mmap(ptr::null_mut(), len, prot, MapFlags::SHARED, file, 0) }
            .map_err(|source| WorkloadError::Map { bytes: len, source })?;
        Ok(Self { start, len })
    }

    /// Maps the file again over pages that a SIGBUS handler has replaced.
    pub(super) fn restore(&self, file: impl AsFd) -> Result<(), Errno> {
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::SHARED | MapFlags::FIXED;
        // SAFETY: the new mapping replaces exactly this region, to which no reference exists.
        unsafe { mmap(self.start, self.len, prot, flags, file, 0) }.map(|_| ())
    }

    /// Address and length.
    pub(super) fn span(&self) -> (usize, usize) {
        (self.start.addr(), self.len)
    }

    /// Fills a range with `stamp`. Both ends must be multiples of 8. The range is clipped to the
    /// region.
    pub(super) fn fill(&self, offset: usize, len: usize, stamp: u64) {
        let end = offset.saturating_add(len).min(self.len);
        for at in (offset..end).step_by(8) {
            // SAFETY: `at + 8 <= self.len` because both are multiples of 8, the start is
            // page-aligned, and this process accesses the words of a region atomically only.
            let word = unsafe { AtomicU64::from_ptr(self.start.byte_add(at).cast()) };
            word.store(stamp, Relaxed);
        }
    }

    /// Writes the first `len` bytes of the region to `file` at `offset`; repeats short writes.
    pub(super) fn write_to(&self, file: impl AsFd, len: usize, offset: u64) -> Result<(), Errno> {
        let len = len.min(self.len);
        let mut done = 0;
        while done < len {
            let at = i64::try_from(offset + done as u64).map_err(|_| Errno::FBIG)?;
            // rustix's pwrite takes a slice, and a slice of memory that other threads write is
            // undefined behaviour.
            // SAFETY: `done..len` lies within the region, which lives as long as `self`.
            let count = unsafe {
                let from = self.start.byte_add(done);
                libc::pwrite(file.as_fd().as_raw_fd(), from, len - done, at)
            };
            match usize::try_from(count) {
                // A write of nothing without an error: a retry could loop for ever.
                Ok(0) => return Err(Errno::IO),
                Ok(count) => done += count,
                Err(_) => match last_errno() {
                    Errno::INTR => {}
                    errno => return Err(errno),
                },
            }
        }
        Ok(())
    }

    /// `msync(MS_SYNC | MS_INVALIDATE)` over a range whose start is page-aligned.
    pub(super) fn sync(&self, offset: usize, len: usize) -> Result<(), Errno> {
        let end = offset.saturating_add(len).min(self.len);
        if offset >= end {
            return Ok(());
        }
        // SAFETY: the range lies within the mapping, and msync does not change its contents.
        unsafe {
            let flags = MsyncFlags::SYNC | MsyncFlags::INVALIDATE;
            msync(self.start.byte_add(offset), end - offset, flags)
        }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the region owns the mapping, and nothing borrows the region any more.
        let unmapped = unsafe { munmap(self.start, self.len) };
        debug_assert!(unmapped.is_ok());
    }
}

/// The errno of the last failed libc call of this thread.
pub(super) fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn stamps_reach_the_file() {
        let mut file = tempfile::tempfile().unwrap();
        file.set_len(8192).unwrap();
        let mapped = Region::of_file(&file, 8192).unwrap();
        mapped.fill(4096, 4096, 0x0101_0101_0101_0101);
        mapped.sync(4096, 4096).unwrap();
        let buffer = Region::anonymous(4096).unwrap();
        buffer.fill(0, 512, u64::MAX);
        buffer.write_to(&file, 512, 0).unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        assert!(bytes[..512].iter().all(|&byte| byte == 0xff));
        assert!(bytes[512..4096].iter().all(|&byte| byte == 0));
        assert!(bytes[4096..].iter().all(|&byte| byte == 1));
    }

    #[test]
    fn a_range_beyond_the_end_is_clipped() {
        let region = Region::anonymous(4096).unwrap();
        region.fill(4088, 4096, 1);
        region.sync(8192, 4096).unwrap();
    }
}
