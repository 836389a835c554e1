//! Blocks whose tags do not match their data.
//!
//! A page or direct-I/O buffer that is not kept stable may change after the disk has checked it and
//! before the disk has copied it (`resp_write_dt0`, `drivers/scsi/scsi_debug.c`). Such a write
//! succeeds, and every later read of the block fails, including that of the next test's `mkfs`. The
//! file system need not write the block again: it drops the pages of a deleted file.

use anyhow::{Context as _, Result};

use super::direct_io::DirectFile;
use super::disk::Disk;

/// Bytes of one read.
const CHUNK: usize = 256 << 10;

/// Bytes of one write; the size of a disk is a multiple of it.
const BLOCK: usize = 4096;

/// Overwrites each unreadable block of 4096 bytes with zeros. Returns how many there were.
///
/// # Errors
/// The disk cannot be opened, or a block cannot be written.
pub(crate) fn rewrite(disk: &Disk) -> Result<u64> {
    let device = DirectFile::open(&disk.path)?;
    let size = disk.sectors()? * 512;
    let mut rewritten = 0;
    for chunk in (0..size).step_by(CHUNK) {
        let length = CHUNK.min(usize::try_from(size - chunk)?);
        if device.read(chunk, length).is_ok() {
            continue;
        }
        for block in (chunk..chunk + length as u64).step_by(BLOCK) {
            if device.read(block, BLOCK).is_err() {
                device.write(block, &[0; BLOCK]).with_context(|| {
                    format!("cannot rewrite the block at byte {block} of {}", disk.name)
                })?;
                rewritten += 1;
            }
        }
    }
    Ok(rewritten)
}
