//! Contexts of stalls: waits that stable pages cause, and waits for a requested writeback.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use stable_trace_analysis::event::Context;

use crate::harness::writeback::start_writeback;
use crate::harness::{Agent, Disk, Fs, Recording, Scratch, Test, Wac, program};

/// Stalls that a test waits for before it stops the workload.
const MANY: u64 = 1_000;

pub(crate) fn tests() -> Vec<Test> {
    Fs::ALL
        .into_iter()
        .flat_map(|fs| {
            [
                Test::anywhere(format!("fsync_on_{fs}_is_sync"), move || fsync_is_sync(fs)),
                Test::anywhere(format!("stores_on_{fs}_are_page_mkwrite"), move || {
                    stores_are_page_mkwrite(fs)
                }),
                Test::anywhere(format!("truncation_on_{fs}_is_not_a_write"), move || {
                    truncation_is_not_a_write(fs)
                }),
                Test::anywhere(format!("unmount_of_{fs}_is_not_a_write"), move || {
                    unmount_is_not_a_write(fs)
                }),
            ]
        })
        .map(Test::requires_traced_loop_device)
        .collect()
}

fn scratch(fs: Fs) -> Result<Scratch> {
    // xfs has the largest minimum size.
    Scratch::with_stable_writes(fs, Disk::loop_device(320)?, true)
}

/// No page was rewritten under writeback, so no stall is of a stable page.
fn no_write_waited(recording: &Recording) -> Result<()> {
    let write = recording
        .stalls()
        .find(|stall| matches!(stall.context, Context::WriteBegin | Context::PageMkwrite));
    ensure!(write.is_none(), "a write waited: {write:?}");
    Ok(())
}

/// dd writes each page once and waits for all of them at its end.
fn fsync_is_sync(fs: Fs) -> Result<()> {
    let scratch = scratch(fs)?;
    let output = format!("of={}", scratch.path().join("file").display());
    let words = ["bs=1M", "count=16", "conv=fsync", "status=none"];
    let mut agent = Agent::start(["--min-latency=0", "--comm=dd"])?;
    agent.repeat_until_stall(|| {
        program::run("dd", &[&["if=/dev/zero", &output], &words[..]].concat()).map(drop)
    })?;
    let recording = agent.stop()?;

    ensure!(recording.status.success(), "{}: {}", recording.status, recording.errors);
    no_write_waited(&recording)?;
    let other = recording.stalls().find(|stall| stall.context != Context::Sync);
    ensure!(other.is_none(), "dd stalled in another context: {other:?}");
    Ok(())
}

/// Sixty-four threads store to a mapping of one file and call `msync`.
fn stores_are_page_mkwrite(fs: Fs) -> Result<()> {
    let scratch = scratch(fs)?;
    let mut wac = Wac::spawn_paused(scratch.path(), "b")?;
    // A small ring bounds the backlog: the agent stops after some thousand stalls.
    let pid = wac.pid().to_string();
    let mut agent = Agent::start(["--min-latency=0", "--ring-size=256KiB", "--pid", &pid])?;
    wac.start()?;
    agent.await_stalls(MANY)?;
    wac.stop()?;
    let recording = agent.stop()?;

    let write = recording.stalls().find(|stall| stall.context == Context::WriteBegin);
    ensure!(write.is_none(), "a stall in write_begin without a write(): {write:?}");
    let faults: Vec<_> =
        recording.stalls().filter(|stall| stall.context == Context::PageMkwrite).collect();
    let handler = fs.page_mkwrite_handler();
    let unexpected = faults.iter().find(|stall| stall.function != handler);
    ensure!(unexpected.is_none(), "not in {handler}: {unexpected:?}");
    ensure!(!faults.is_empty(), "no store stalled: {:?}", recording.summary()?.stalls);
    let msync = recording.stalls().find(|stall| stall.context == Context::Sync);
    ensure!(msync.is_some(), "no msync stalled: {:?}", recording.summary()?.stalls);
    Ok(())
}

/// Truncates pages under writeback, one of them partially.
fn truncation_is_not_a_write(fs: Fs) -> Result<()> {
    let scratch = scratch(fs)?;
    let path = scratch.path().join("file");
    let pid = std::process::id().to_string();
    let mut agent = Agent::start(["--min-latency=0", "--pid", &pid])?;
    agent.repeat_until_stall(|| {
        for _ in 0..20 {
            let mut file = File::create(&path).context("cannot create a file")?;
            file.write_all(&vec![1; 4 << 20]).context("cannot write")?;
            start_writeback(&file)?;
            file.set_len(4097).context("cannot truncate")?;
        }
        Ok(())
    })?;
    no_write_waited(&agent.stop()?)
}

/// An unmount waits for writeback of dirty pages.
fn unmount_is_not_a_write(fs: Fs) -> Result<()> {
    let scratch = scratch(fs)?;
    let pid = std::process::id().to_string();
    let mut agent = Agent::start(["--min-latency=0", "--pid", &pid])?;
    agent.repeat_until_stall(|| {
        fill(&scratch.path().join("file"))?;
        rustix::fs::sync();
        Ok(())
    })?;
    fill(&scratch.path().join("other"))?;
    drop(scratch);
    no_write_waited(&agent.stop()?)
}

/// Writes 16 MiB without starting writeback.
fn fill(path: &Path) -> Result<()> {
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).open(path)?;
    for _ in 0..16 {
        file.write_all(&vec![7; 1 << 20]).context("cannot write")?;
    }
    Ok(())
}
