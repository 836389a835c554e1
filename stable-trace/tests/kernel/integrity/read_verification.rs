//! Reads that the device completes without an error and that fail the host's verification.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::fs::OFlags;
use stable_trace_analysis::event::{Check, IntegrityError, Operation, PageKind, Source};

use super::on_pi_disk;
use crate::harness::console::QuietConsole;
use crate::harness::direct_io::DirectFile;
use crate::harness::integrity_failures::integrity;
use crate::harness::{Agent, Disk, Dmesg, Test, TracefsInstance};

/// Refused reads that the test waits for.
const MANY: u64 = 20;

/// Bytes of a read, and of the shared buffer.
const BLOCK: usize = 4096;

/// Bytes of what one tuple protects.
const SECTOR: usize = 512;

/// The first block that is read. A failure of the very first sector is one of the whole read: its number, 0, is that
/// of no report.
const FIRST: u64 = 1;

/// How many blocks are read.
const BLOCKS: u64 = 16;

/// An emulated machine is slow.
const TIMEOUT: Duration = Duration::from_mins(2);

pub(crate) fn tests() -> Vec<Test> {
    ["auto", "kprobe"]
        .into_iter()
        .map(|method| {
            on_pi_disk(&format!("failed_read_verification_is_reported_{method}"), move || {
                failed_verification(method)
            })
        })
        .collect()
}

/// Memory that threads and the disk write to at the same time: this makes the verification fail.
struct Buffer(*mut u8);

// SAFETY: no reference into the buffer is created, and its contents are never used.
unsafe impl Sync for Buffer {}

impl Buffer {
    fn new() -> Result<Self> {
        // SAFETY: the layout has a size.
        let start = unsafe { alloc_zeroed(Self::layout()?) };
        ensure!(!start.is_null(), "cannot allocate the buffer");
        Ok(Self(start))
    }

    fn layout() -> Result<Layout> {
        Layout::from_size_align(BLOCK, BLOCK).context("the buffer has an invalid layout")
    }

    fn read_into(&self, file: &impl std::os::fd::AsRawFd, at: u64) -> io::Result<()> {
        // SAFETY: the buffer has `BLOCK` bytes and lives as long as `self`.
        let read = unsafe { libc::pread(file.as_raw_fd(), self.0.cast(), BLOCK, at.cast_signed()) };
        if read < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    fn change(&self) {
        // SAFETY: within the buffer; volatile, because other threads and the disk write there too.
        unsafe { self.0.add(BLOCK / 2).write_volatile(self.0.read_volatile().wrapping_add(1)) };
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Ok(layout) = Self::layout() {
            // SAFETY: allocated with this layout.
            unsafe { dealloc(self.0, layout) };
        }
    }
}

fn failed_verification(method: &str) -> Result<()> {
    let _quiet = QuietConsole::new()?;
    let disk = Disk::pi()?;
    let direct = DirectFile::open(&disk.path)?;
    for n in FIRST..=BLOCKS {
        // A block that was never written has the escape tag, which is not checked.
        direct.write(n * BLOCK as u64, &contents(n)).context("cannot write")?;
    }
    let agent = Agent::start(["-q", "--attach", method])?;
    let mut dmesg = Dmesg::from_now()?;
    let completions = TracefsInstance::recording_integrity_completions()?;
    let refused = read_into_changing_buffer(&disk)?;
    let recording = agent.stop()?;

    ensure!(completions.count()? == 0, "the disk reports errors: {:#?}", completions.lines()?);
    let total = recording.summary()?.integrity_errors_total;
    ensure!(total == refused, "{refused} reads were refused: {:#?}", recording.summary()?);
    let mut logged: Vec<_> =
        dmesg.messages()?.iter().filter_map(|text| refused_sector(text)).collect();
    let sector_and_guard = |error: &IntegrityError| {
        error.sector.zip(error.proof.as_ref().and_then(|proof| proof.stored_guard))
    };
    let mut reported: Vec<_> = integrity(&recording).filter_map(sector_and_guard).collect();
    logged.sort_unstable();
    reported.sort_unstable();
    ensure!(reported == logged, "reported {reported:x?}\nlogged {logged:x?}");
    let unexpected = integrity(&recording).find(|error| {
        (error.op, error.check, error.source) != (Operation::Read, Check::Guard, Source::Verify)
            || error.sectors != 1
            || error.device.as_deref() != Some(disk.name.as_str())
            || error.pages.len() != 1
            || error.pages.iter().any(|page| page.kind != PageKind::Anonymous)
            || error.pid != Some(std::process::id())
    });
    ensure!(unexpected.is_none(), "{unexpected:#?}");
    Ok(())
}

/// Reads into one shared buffer that other threads change. Returns how many reads were refused.
fn read_into_changing_buffer(disk: &Disk) -> Result<u64> {
    let buffer = Buffer::new()?;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::DIRECT.bits().cast_signed())
        .open(&disk.path)
        .context("cannot open the disk")?;
    let (refused, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let deadline = Instant::now() + TIMEOUT;
    let read = |first: u64| -> Result<()> {
        let mut n = first;
        while !over.load(Relaxed) {
            match buffer.read_into(&file, (FIRST + n % BLOCKS) * BLOCK as u64) {
                Ok(()) => {}
                Err(error) if error.raw_os_error() == Some(libc::EILSEQ) => {
                    refused.fetch_add(1, Relaxed);
                }
                Err(error) => return Err(error).context("a read failed with another error"),
            }
            if refused.load(Relaxed) >= MANY || Instant::now() > deadline {
                over.store(true, Relaxed);
            }
            n += 1;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let readers: Vec<_> = (0..8).map(|first| scope.spawn(move || read(first))).collect();
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(Relaxed) {
                    buffer.change();
                }
            });
        }
        let ended = readers.into_iter().try_for_each(|reader| match reader.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        over.store(true, Relaxed);
        ended
    })?;
    let refused = refused.load(Relaxed);
    ensure!(refused >= MANY, "{refused} reads were refused within {} s", TIMEOUT.as_secs());
    Ok(refused)
}

/// What a block is written with: each sector has a guard of its own.
fn contents(block: u64) -> Vec<u8> {
    let of_sector = |sector: u64| [u8::try_from(block * 8 + sector + 1).unwrap_or(0); SECTOR];
    (0..8).flat_map(of_sector).collect()
}

/// Parses sector and stored guard of `sda: guard tag error at sector 40 (rcvd 1234, want 5678)`.
fn refused_sector(message: &str) -> Option<(u64, u64)> {
    let (_, rest) = message.split_once("guard tag error at sector ")?;
    let (sector, rest) = rest.split_once(" (rcvd ")?;
    let (stored, _) = rest.split_once(',')?;
    Some((sector.parse().ok()?, u64::from_str_radix(stored, 16).ok()?))
}
