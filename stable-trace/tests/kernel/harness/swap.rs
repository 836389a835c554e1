//! A slow swap area, and memory that is swapped out to it.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::disk::Disk;
use super::{program, wait_until};

/// A disk of its own (`null_blk`) that takes its time for each command, used as swap until this is dropped.
#[derive(Debug)]
pub(crate) struct SwapArea {
    pub(crate) disk: Disk,
    _disk: NullDisk,
}

/// The name of the disk. Older kernels number disks instead: the first one is the guest's.
const NAME: &str = "nullb1";

/// How long a command takes, in ns.
const DELAY_NS: &str = "5000000";

impl SwapArea {
    pub(crate) fn create() -> Result<Self> {
        let null = NullDisk::create()?;
        let path = Path::new("/dev").join(NAME);
        wait_until(|| Ok((!path.exists()).then(|| format!("no {}", path.display()))))?;
        let disk = Disk::named(NAME)?;
        program::run("mkswap", &[&path.to_string_lossy()])?;
        program::run("swapon", &[&path.to_string_lossy()])?;
        Ok(Self { disk, _disk: null })
    }
}

impl Drop for SwapArea {
    fn drop(&mut self) {
        if let Err(error) = program::run("swapoff", &[&self.disk.path.to_string_lossy()]) {
            eprintln!("{error:#}");
        }
    }
}

#[derive(Debug)]
struct NullDisk;

impl NullDisk {
    fn create() -> Result<Self> {
        let folder = Path::new("/sys/kernel/config/nullb").join(NAME);
        fs::create_dir(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let disk = Self;
        let settings = [
            ("size", "64"),
            ("memory_backed", "1"),
            // A timer completes commands.
            ("irqmode", "2"),
            ("completion_nsec", DELAY_NS),
            ("power", "1"),
        ];
        for (name, value) in settings {
            fs::write(folder.join(name), value)
                .with_context(|| format!("cannot set {name} of {NAME}"))?;
        }
        Ok(disk)
    }
}

impl Drop for NullDisk {
    fn drop(&mut self) {
        let folder = Path::new("/sys/kernel/config/nullb").join(NAME);
        if let Err(error) = fs::remove_dir(&folder) {
            eprintln!("cannot remove {}: {error}", folder.display());
        }
    }
}

const PAGE: usize = 4096;

/// Shared memory, whose pages can be swapped out.
#[derive(Debug)]
pub(crate) struct SharedMemory {
    start: *mut libc::c_void,
    bytes: usize,
}

impl SharedMemory {
    /// Fills this number of pages.
    pub(crate) fn new(pages: usize) -> Result<Self> {
        let bytes = pages * PAGE;
        // SAFETY: a new mapping, which replaces no other.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        ensure!(start != libc::MAP_FAILED, "mmap: {}", io::Error::last_os_error());
        let memory = Self { start, bytes };
        memory.write(1);
        Ok(memory)
    }

    /// Starts to write all pages to the swap area. Those that are being written stay in memory until then.
    pub(crate) fn swap_out(&self) -> Result<()> {
        // SAFETY: the mapping lives, and its content does not change.
        let done = unsafe { libc::madvise(self.start, self.bytes, libc::MADV_PAGEOUT) };
        ensure!(done == 0, "madvise: {}", io::Error::last_os_error());
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
        // SAFETY: `new` created the mapping, and no reference to it is left.
        unsafe { libc::munmap(self.start, self.bytes) };
    }
}
