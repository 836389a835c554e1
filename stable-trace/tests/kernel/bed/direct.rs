//! Direct I/O: past the page cache, to the disk.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::{Context as _, Result};
use rustix::fs::OFlags;

/// Alignment that every disk accepts, in bytes.
const ALIGNMENT: usize = 4096;

/// A file or a disk open for direct reads and writes.
#[derive(Debug)]
pub struct Direct(File);

impl Direct {
    /// Opens it.
    pub fn open(path: &Path) -> Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(OFlags::DIRECT.bits().cast_signed())
            .open(path)
            .with_context(|| format!("cannot open {} for direct I/O", path.display()))?;
        Ok(Self(file))
    }

    /// Reads `size` bytes at `offset`, both multiples of the disk's block.
    pub fn read(&self, offset: u64, size: usize) -> io::Result<Vec<u8>> {
        let mut room = vec![0; size + ALIGNMENT];
        let data = aligned(&mut room, size);
        self.0.read_exact_at(data, offset)?;
        Ok(data.to_vec())
    }

    /// Writes `bytes` at `offset`, both multiples of the disk's block.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut room = vec![0; bytes.len() + ALIGNMENT];
        let data = aligned(&mut room, bytes.len());
        data.copy_from_slice(bytes);
        self.0.write_all_at(data, offset)
    }
}

fn aligned(room: &mut [u8], size: usize) -> &mut [u8] {
    let start = room.as_ptr().align_offset(ALIGNMENT);
    &mut room[start..start + size]
}
