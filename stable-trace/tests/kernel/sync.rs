//! Which waits stable pages cause, and which somebody asked for.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use stable_trace_analysis::event::Context;

use crate::bed::{Agent, Disk, Fs, Need, Recording, Scratch, Test, Wac, program};

/// Stalls that are awaited before a workload is ended.
const MANY: u64 = 1_000;

pub fn tests() -> Vec<Test> {
    let on_loop = |test: Test| {
        test.needs(Need::Root)
            .needs(Need::Agent)
            .needs(Need::Tracefs)
            .needs(Need::Program("losetup"))
    };
    Fs::ALL
        .into_iter()
        .flat_map(|fs| {
            [
                Test::both(format!("fsync_on_{fs}_is_sync"), move || fsync_is_sync(fs)),
                Test::both(format!("stores_on_{fs}_are_page_mkwrite"), move || {
                    stores_are_page_mkwrite(fs)
                }),
                Test::both(format!("truncation_on_{fs}_is_no_write"), move || {
                    truncation_is_no_write(fs)
                }),
                Test::both(format!("unmounting_{fs}_is_no_write"), move || {
                    unmounting_is_no_write(fs)
                }),
            ]
        })
        .map(on_loop)
        .collect()
}

fn scratch(fs: Fs) -> Result<Scratch> {
    // What the largest of them, xfs, wants at least.
    Scratch::with_stable_writes(fs, Disk::looped(320)?, true)
}

/// Nobody rewrote what was under way to the disk: whoever waited, it was for no stable page.
fn no_write_waited(recording: &Recording) -> Result<()> {
    let write = recording
        .stalls()
        .find(|stall| matches!(stall.context, Context::WriteBegin | Context::PageMkwrite));
    ensure!(write.is_none(), "a write waited: {write:?}");
    Ok(())
}

/// dd writes each page once, and waits for them all at the end.
fn fsync_is_sync(fs: Fs) -> Result<()> {
    let scratch = scratch(fs)?;
    let of = format!("of={}", scratch.path().join("file").display());
    let words = ["bs=1M", "count=16", "conv=fsync", "status=none"];
    let mut agent = Agent::start(["--min-latency=0", "--stacks", "--comm=dd"])?;
    agent.until_it_stalls(|| {
        program::run("dd", &[&["if=/dev/zero", &of], &words[..]].concat()).map(drop)
    })?;
    let recording = agent.stop()?;

    ensure!(recording.status.success(), "{}: {}", recording.status, recording.errors);
    no_write_waited(&recording)?;
    let other = recording.stalls().find(|stall| stall.context != Context::Sync);
    ensure!(other.is_none(), "dd waited for something else: {other:?}");
    Ok(())
}

/// The handler that the file system gives its mappings, as 5.10 to 7.3 have it.
const fn handler(fs: Fs) -> &'static str {
    match fs {
        Fs::Ext4 => "ext4_page_mkwrite",
        Fs::Xfs => "xfs_filemap_page_mkwrite",
        Fs::Btrfs => "btrfs_page_mkwrite",
    }
}

/// Sixty-four threads store to a mapping of one file, and call `msync`.
fn stores_are_page_mkwrite(fs: Fs) -> Result<()> {
    let scratch = scratch(fs)?;
    let mut wac = Wac::ready(scratch.path(), "b")?;
    // A small ring: what is enough must not wait behind a hundred thousand more.
    let pid = wac.pid().to_string();
    let mut agent =
        Agent::start(["--min-latency=0", "--stacks", "--ring-size=256KiB", "--pid", &pid])?;
    wac.go()?;
    agent.await_stalls(MANY)?;
    wac.stop()?;
    let recording = agent.stop()?;

    let write = recording.stalls().find(|stall| stall.context == Context::WriteBegin);
    ensure!(write.is_none(), "nobody called write(): {write:?}");
    let faults: Vec<_> =
        recording.stalls().filter(|stall| stall.context == Context::PageMkwrite).collect();
    let strange = faults.iter().find(|stall| stall.function != handler(fs));
    ensure!(strange.is_none(), "not in {}: {strange:?}", handler(fs));
    ensure!(!faults.is_empty(), "no stall is a store: {:?}", recording.summary()?.stalls);
    let msync = recording.stalls().find(|stall| stall.context == Context::Sync);
    ensure!(msync.is_some(), "no msync waited: {:?}", recording.summary()?.stalls);
    Ok(())
}

/// Pages that are under way to the disk are cut off, one of them in its middle.
fn truncation_is_no_write(fs: Fs) -> Result<()> {
    let scratch = scratch(fs)?;
    let path = scratch.path().join("file");
    let pid = std::process::id().to_string();
    let mut agent = Agent::start(["--min-latency=0", "--stacks", "--pid", &pid])?;
    agent.until_it_stalls(|| {
        for _ in 0..20 {
            let mut file = File::create(&path).context("cannot make a file")?;
            file.write_all(&vec![1; 4 << 20]).context("cannot write")?;
            start_writeback(&file)?;
            file.set_len(4097).context("cannot truncate")?;
        }
        Ok(())
    })?;
    no_write_waited(&agent.stop()?)
}

/// Starts writeback of a whole file and does not wait for it.
fn start_writeback(file: &File) -> Result<()> {
    // SAFETY: a system call on an open file; no memory is involved. rustix does not have it.
    let result =
        unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
    ensure!(result == 0, "sync_file_range: {}", std::io::Error::last_os_error());
    Ok(())
}

/// Whoever unmounts waits for what others have written.
fn unmounting_is_no_write(fs: Fs) -> Result<()> {
    let scratch = scratch(fs)?;
    let pid = std::process::id().to_string();
    let mut agent = Agent::start(["--min-latency=0", "--stacks", "--pid", &pid])?;
    agent.until_it_stalls(|| {
        fill(&scratch.path().join("file"))?;
        rustix::fs::sync();
        Ok(())
    })?;
    fill(&scratch.path().join("other"))?;
    drop(scratch);
    no_write_waited(&agent.stop()?)
}

/// Sixteen MiB that nobody has asked to be written back.
fn fill(path: &Path) -> Result<()> {
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).open(path)?;
    for _ in 0..16 {
        file.write_all(&vec![7; 1 << 20]).context("cannot write")?;
    }
    Ok(())
}
