//! Direct I/O, which bypasses the page cache.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::{Context as _, Result};
use rustix::fs::OFlags;

/// Bytes; every disk accepts this alignment.
const ALIGNMENT: usize = 4096;

/// A file or disk that is open for direct reads and writes.
#[derive(Debug)]
pub(crate) struct DirectFile(File);

impl DirectFile {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(OFlags::DIRECT.bits().cast_signed())
            .open(path)
            .with_context(|| format!("cannot open {} for direct I/O", path.display()))?;
        Ok(Self(file))
    }

    pub(crate) const fn as_file(&self) -> &File {
        &self.0
    }

    /// Reads `size` bytes at `offset`, both multiples of the disk's block.
    pub(crate) fn read(&self, offset: u64, size: usize) -> io::Result<Vec<u8>> {
        let mut allocation = vec![0; size + ALIGNMENT];
        let data = aligned(&mut allocation, size);
        self.0.read_exact_at(data, offset)?;
        Ok(data.to_vec())
    }

    /// Reads like [`read`](Self::read) and returns the error number of a failure.
    pub(crate) fn read_errno(&self, offset: u64, size: usize) -> Option<i32> {
        self.read(offset, size).err().and_then(|error| error.raw_os_error())
    }

    /// Writes `bytes` at `offset`, both multiples of the disk's block.
    pub(crate) fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut allocation = vec![0; bytes.len() + ALIGNMENT];
        let data = aligned(&mut allocation, bytes.len());
        data.copy_from_slice(bytes);
        self.0.write_all_at(data, offset)
    }
}

fn aligned(allocation: &mut [u8], size: usize) -> &mut [u8] {
    let start = allocation.as_ptr().align_offset(ALIGNMENT);
    &mut allocation[start..start + size]
}
