//! Blocks whose tags do not go with what is in them.
//!
//! What is not kept stable, a page or a buffer of direct I/O, may change after the disk has checked
//! it and before the disk has copied it (`resp_write_dt0`, `drivers/scsi/scsi_debug.c`): such a write
//! does well, and each read of the block fails from then on, also that of the next test's `mkfs`. No
//! file system need write the block again: pages of a file that is deleted are dropped.

use anyhow::{Context as _, Result};

use super::direct::Direct;
use super::disk::Disk;

/// Bytes read at once.
const PIECE: usize = 256 << 10;

/// Bytes that are written anew; a disk's size is a multiple of it.
const BLOCK: usize = 4096;

/// Writes zeros to all blocks of 4096 bytes that cannot be read. Returns how many.
///
/// # Errors
/// The disk cannot be opened, or a block cannot be written.
pub fn mend(disk: &Disk) -> Result<u64> {
    let device = Direct::open(&disk.path)?;
    let size = disk.sectors()? * 512;
    let mut mended = 0;
    for piece in (0..size).step_by(PIECE) {
        let length = PIECE.min(usize::try_from(size - piece)?);
        if device.read(piece, length).is_ok() {
            continue;
        }
        for block in (piece..piece + length as u64).step_by(BLOCK) {
            if device.read(block, BLOCK).is_err() {
                device
                    .write(block, &[0; BLOCK])
                    .with_context(|| format!("cannot mend byte {block} of {}", disk.name))?;
                mended += 1;
            }
        }
    }
    Ok(mended)
}
