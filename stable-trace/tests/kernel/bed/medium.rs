//! Blocks of the NVMe disk, changed on the medium behind its back.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;

use anyhow::{Context as _, Result, ensure};

use super::direct::Direct;
use super::disk::Disk;

/// Bytes of a block.
const BLOCK: usize = 4096;

/// How many there are: the last of the disk, which no file system on it uses while it is nearly
/// empty. Not the first: the emulated disk does not check that one (QEMU 7.2; seen on 6.12), and a
/// read that only the host finds to be wrong is another story.
const BLOCKS: usize = 4;

/// One byte of each of the last blocks is another than was written: every read of them fails.
#[derive(Debug)]
pub struct Medium {
    /// The disk that they are on.
    pub disk: Disk,
    direct: Direct,
    first: usize,
}

impl Medium {
    /// Changes them. On a disk with a file system, after that was made: its maker may write there.
    pub fn changed() -> Result<Self> {
        let disk = Disk::nvme_pi()?;
        let direct = Direct::open(&disk.path)?;
        let sectors = usize::try_from(disk.sectors()?)?;
        let medium = Self { disk, direct, first: sectors * 512 / BLOCK - BLOCKS };
        medium.mend()?;
        let image = std::env::var("LAB_NVME_IMAGE").context("LAB_NVME_IMAGE")?;
        let image = OpenOptions::new().write(true).open(&image).context(image)?;
        for block in medium.blocks() {
            image.write_all_at(b"!", (block * BLOCK + 100) as u64)?;
        }
        Ok(medium)
    }

    /// Reads each of them once, in vain.
    pub fn read(&self) -> Result<()> {
        for block in self.blocks() {
            let read = self.direct.read((block * BLOCK) as u64, BLOCK);
            ensure!(read.is_err(), "block {block} was read");
        }
        Ok(())
    }

    /// Writes them anew.
    pub fn mend(&self) -> Result<()> {
        let zeros = [0; BLOCK * BLOCKS];
        self.direct
            .write((self.first * BLOCK) as u64, &zeros)
            .context("cannot write the blocks anew")
    }

    const fn blocks(&self) -> std::ops::Range<usize> {
        self.first..self.first + BLOCKS
    }
}
