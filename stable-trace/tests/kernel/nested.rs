//! A system call whose buffer is a mapping: the fault is one thing, the write is another.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use stable_trace_analysis::event::{Context, Stall};

use crate::bed::injection::SlowDisk;
use crate::bed::{Agent, Disk, Fs, Loaded, Need, Scratch, Test, TracefsInstance, bpftool, host};

/// The page that everything here is about.
const PAGE: usize = 4096;

/// How often each is done.
const TIMES: usize = 20;

pub fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for method in ["fentry", "kprobe"] {
        for fs in [Fs::Ext4, Fs::Xfs] {
            tests.push(
                Test::guest(format!("nested::{method}_{fs}"), move || faults_in_calls(method, fs))
                    .needs(Need::Agent)
                    .needs(Need::PiDisk)
                    .needs(Need::Tracefs)
                    .needs(Need::Program("bpftool")),
            );
        }
    }
    tests
}

/// A page of a file, mapped.
struct Mapped {
    file: File,
    start: *mut libc::c_void,
}

impl Mapped {
    fn new(path: &Path) -> Result<Self> {
        let file = page(path)?;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping, which takes no memory from anybody.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                PAGE,
                protection,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        ensure!(start != libc::MAP_FAILED, "mmap: {}", io::Error::last_os_error());
        Ok(Self { file, start })
    }

    /// Has the next access fault.
    fn forget(&self) -> Result<()> {
        // SAFETY: the page of a shared file mapping comes back from its file.
        let done = unsafe { libc::madvise(self.start, PAGE, libc::MADV_DONTNEED) };
        ensure!(done == 0, "madvise: {}", io::Error::last_os_error());
        Ok(())
    }

    /// `read()` from a file into the mapping: the kernel stores to it.
    fn read_from(&self, file: &File) -> Result<()> {
        // SAFETY: the mapping lives, is one page long, and nothing else refers to it.
        let done = unsafe { libc::pread(file.as_raw_fd(), self.start, PAGE, 0) };
        ensure!(done == PAGE.cast_signed(), "pread: {}", io::Error::last_os_error());
        Ok(())
    }

    /// `write()` to a file from the mapping: the kernel loads from it, within the write.
    fn write_to(&self, file: &File) -> Result<()> {
        // SAFETY: the mapping lives and is one page long.
        let done = unsafe { libc::pwrite(file.as_raw_fd(), self.start, PAGE, 0) };
        ensure!(done == PAGE.cast_signed(), "pwrite: {}", io::Error::last_os_error());
        Ok(())
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: made by us, and nothing refers to it any more.
        unsafe { libc::munmap(self.start, PAGE) };
    }
}

/// A file of one page, on the disk.
fn page(path: &Path) -> Result<File> {
    std::fs::write(path, [1; PAGE]).context("cannot make a file")?;
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    file.sync_all().context("cannot write back")?;
    Ok(file)
}

/// Sends what is dirty on its way and does not wait for it.
fn start_writeback(file: &File) -> Result<()> {
    // SAFETY: a system call on an open file; no memory is involved. rustix does not have it.
    let done =
        unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
    ensure!(done == 0, "sync_file_range: {}", io::Error::last_os_error());
    Ok(())
}

fn faults_in_calls(method: &str, fs: Fs) -> Result<()> {
    let scratch = Scratch::new(fs, Disk::pi()?)?;
    let mapped = Mapped::new(&scratch.path().join("mapped"))?;
    let written = page(&scratch.path().join("written"))?;
    let source = page(&scratch.path().join("source"))?;
    let _slow = SlowDisk::new(scratch.disk(), Duration::from_millis(100), 4)?;
    let pid = std::process::id().to_string();
    let agent = Agent::start(["--attach", method, "--min-latency=0", "--stacks", "--pid", &pid])?;
    let held = Loaded::by(agent.pid())?;
    let thread = rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned();
    let waits = TracefsInstance::recording_process(&host::wait_event(), thread)?;
    // Once in a while a busy machine has the page on the disk before we come back to it.
    let waited = |access: &dyn Fn() -> Result<()>| -> Result<usize> {
        let before = waits.hits()?;
        access()?;
        Ok(usize::from(waits.hits()? > before))
    };
    let (mut faults, mut writes) = (0, 0);
    for _ in 0..TIMES {
        // The store of a read() waits for the mapping's page, in a fault.
        faults += waited(&|| mapped.read_from(&source))?;
        faults += waited(&|| {
            start_writeback(&mapped.file)?;
            mapped.read_from(&source)
        })?;
        // A write() that faults on its buffer waits for the page that it writes to.
        writes += waited(&|| mapped.write_to(&written))?;
        writes += waited(&|| {
            start_writeback(&written)?;
            mapped.forget()?;
            mapped.write_to(&written)
        })?;
    }
    bpftool::await_no_task(&held)?;
    let recording = agent.stop()?;

    let summary = recording.summary()?;
    ensure!(summary.waits_unfinished == 0, "{summary:#?}");
    ensure!(summary.map_failures.is_empty(), "{:?}", summary.map_failures);
    let stalls: Vec<_> = recording.stalls().collect();
    let spared = usize::from(method == "kprobe" && host::kernel_version() < (5, 16));
    all_are(&stalls, mapped.file.metadata()?.ino(), Context::PageMkwrite, faults, spared)?;
    all_are(&stalls, written.metadata()?.ino(), Context::WriteBegin, writes, spared)
}

/// Those of one file are of one kind, and one for each access that tracefs saw wait; where the
/// scheduler ends waits, one may have been spared its sleep.
fn all_are(
    stalls: &[&Stall],
    ino: u64,
    context: Context,
    waits: usize,
    spared: usize,
) -> Result<()> {
    let of_file: Vec<_> = stalls.iter().filter(|stall| stall.ino == ino).collect();
    let strange = of_file.iter().find(|stall| stall.context != context);
    ensure!(strange.is_none(), "not {}: {strange:?}", context.name());
    let count = of_file.len();
    ensure!(waits * 2 > TIMES, "{waits} of {TIMES} waited: the test shows nothing");
    ensure!(
        count <= waits && waits <= count + spared,
        "{count} stalls, but {waits} waits in {}",
        context.name()
    );
    Ok(())
}
