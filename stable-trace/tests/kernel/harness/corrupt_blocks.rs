//! Corrupts blocks of the NVMe disk on its medium: the disk does not see the change.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;

use anyhow::{Context as _, Result, ensure};

use super::direct_io::DirectFile;
use super::disk::Disk;

/// Bytes of a block.
const BLOCK: usize = 4096;

/// The last blocks of the disk: a nearly empty file system does not use them. The first block is
/// unsuitable: the emulated disk does not check it (QEMU 7.2; seen on 6.12), so that only the host
/// finds the error.
const BLOCKS: usize = 4;

/// Overwrites one byte of the file behind the NVMe disk.
pub(crate) fn corrupt_nvme_byte(offset: u64) -> Result<()> {
    change("LAB_NVME_IMAGE", offset, b"!")
}

/// Overwrites bytes of the file behind the NVMe disk.
pub(crate) fn change_nvme_image(offset: u64, bytes: &[u8]) -> Result<()> {
    change("LAB_NVME_IMAGE", offset, bytes)
}

/// The same of one byte of the disk with two paths.
pub(crate) fn corrupt_byte_behind_paths(offset: u64) -> Result<()> {
    change("LAB_NVME_PATHS_IMAGE", offset, b"!")
}

fn change(image: &str, offset: u64, bytes: &[u8]) -> Result<()> {
    let path = std::env::var(image).with_context(|| format!("{image} is not set"))?;
    let image = OpenOptions::new()
        .write(true)
        .open(&path)
        .with_context(|| format!("cannot open {path} for writing"))?;
    image.write_all_at(bytes, offset).with_context(|| format!("cannot write to {path}"))
}

/// The last blocks of the NVMe disk, each with one corrupt byte: every read of them fails.
#[derive(Debug)]
pub(crate) struct CorruptBlocks {
    pub(crate) disk: Disk,
    direct: DirectFile,
    first: usize,
}

impl CorruptBlocks {
    /// Corrupts the blocks. Call it after `mkfs`, which may write there.
    pub(crate) fn create() -> Result<Self> {
        let disk = Disk::nvme_pi()?;
        let direct = DirectFile::open(&disk.path)?;
        let sectors = usize::try_from(disk.sectors()?)?;
        let corrupt = Self { disk, direct, first: sectors * 512 / BLOCK - BLOCKS };
        corrupt.repair()?;
        for block in corrupt.blocks() {
            corrupt_nvme_byte((block * BLOCK + 100) as u64)?;
        }
        Ok(corrupt)
    }

    /// Reads each block once and checks that the read fails.
    pub(crate) fn read(&self) -> Result<()> {
        for block in self.blocks() {
            let read = self.direct.read((block * BLOCK) as u64, BLOCK);
            ensure!(read.is_err(), "the read of corrupt block {block} succeeded");
        }
        Ok(())
    }

    /// Overwrites the blocks with zeros.
    pub(crate) fn repair(&self) -> Result<()> {
        let zeros = [0; BLOCK * BLOCKS];
        self.direct
            .write((self.first * BLOCK) as u64, &zeros)
            .context("cannot overwrite the corrupt blocks")
    }

    const fn blocks(&self) -> std::ops::Range<usize> {
        self.first..self.first + BLOCKS
    }
}
