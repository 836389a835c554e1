//! Device and file system of a stall on what no disk file system backs: swap, and FUSE.

use std::fs::File;
use std::path::Path;

use anyhow::{Result, ensure};
use stable_trace_analysis::units::DeviceId;

use crate::harness::disk::device_of;
use crate::harness::fuse_server::FuseServer;
use crate::harness::shared_memory::SharedMemory;
use crate::harness::swap_area::SwapArea;
use crate::harness::{
    Agent, Disk, Fs, Requirement, Scratch, Test, TracefsInstance, Wac, every_wait_is_accounted_for,
    host,
};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        // Earlier kernels copy the pages, so that no task waits (fs/fuse/file.c).
        Test::anywhere("a_file_of_fuse_names_its_server", fuse_server)
            .requires_all([Requirement::Root, Requirement::Agent, Requirement::Tracefs])
            .requires(Requirement::KernelFrom(6, 16)),
        Test::native("a_file_system_that_does_not_answer_holds_no_run_up", dead_server)
            .requires_traced_loop_device(),
        Test::guest("a_wait_for_swap_names_its_device", swapped_out).requires_all([
            Requirement::Agent,
            Requirement::Tracefs,
            Requirement::PlainDisk,
            Requirement::Program("mkswap"),
        ]),
    ]
}

/// A task that touches a page on its way to the swap area waits for it: a stall of `swap` and its device.
fn swapped_out() -> Result<()> {
    const PAGES: usize = 64;
    let area = SwapArea::create()?;
    let memory = SharedMemory::anonymous(PAGES)?;
    memory.write(1);
    let waits = TracefsInstance::recording_process(
        &host::wait_event(),
        rustix::thread::gettid().as_raw_pid().cast_unsigned(),
    )?;
    let own = std::process::id().to_string();
    let mut agent = Agent::start(["--min-latency=0", "--pid", &own])?;
    agent.repeat_until_stall(|| {
        memory.swap_out()?;
        memory.write(2);
        Ok(())
    })?;
    let recording = agent.stop()?;
    let dev: DeviceId = area.disk.dev()?.parse()?;
    for stall in recording.stalls() {
        ensure!(
            stall.fs.as_deref() == Some("swap")
                && stall.device.as_deref() == Some(&area.disk.name)
                && stall.dev == Some(dev)
                && (stall.ino, &stall.path) == (None, &None),
            "not for swap on {dev}: {stall:?}"
        );
    }
    let summary = recording.summary()?;
    let counted = summary.stalls.iter().filter(|line| line.fs.as_deref() == Some("swap"));
    let counted: u64 = counted.map(|line| line.count).sum();
    ensure!(counted == summary.stalls_total, "{summary:#?}");
    every_wait_is_accounted_for(summary, waits.hits()?)
}

/// A loop device lies on a file whose server does not answer. The run starts, streams and ends, also with a filter that
/// asks what the devices are made of.
fn dead_server() -> Result<()> {
    let server = FuseServer::mount_without_cache("the-source")?;
    let on_server = Disk::loop_on_file(server.file())?;
    let scratch = Scratch::with_stable_writes(Fs::Ext4, Disk::loop_device(64)?, true)?;
    let mut wac = Wac::spawn_paused_with(16, scratch.path(), "a")?;
    wac.start()?;
    let stopped = server.stop_answering();
    let path = server.file().to_owned();
    let asking = std::thread::spawn(move || path.metadata().is_ok());
    for filter in [&on_server.name, &scratch.disk().name] {
        let mut agent = Agent::start(["--min-latency=0", "--device", filter])?;
        if *filter == scratch.disk().name {
            agent.await_stalls(100)?;
        }
        // A new device is a reason to look all of them up again.
        let _new = Disk::loop_device(8)?;
        if *filter == scratch.disk().name {
            // Twice as long as the agent needs to notice it.
            for _ in 0..2 {
                wac.await_progress()?;
            }
            agent.await_stalls(100)?;
        }
        let recording = agent.stop()?;
        ensure!(recording.status.success(), "{}: {}", recording.status, recording.errors);
        recording.summary()?;
    }
    ensure!(!asking.is_finished(), "the server has answered");
    wac.stop()?;
    drop(stopped);
    ensure!(asking.join().is_ok_and(|found| found), "the file is not there");
    Ok(())
}

/// The server is this process. Its name for the file system takes the place of a device.
fn fuse_server() -> Result<()> {
    const PAGES: usize = 16;
    let server = FuseServer::mount("the-source")?;
    let file = File::options().read(true).write(true).open(server.file())?;
    let memory = SharedMemory::of(&file, PAGES)?;
    let dev = device_of(&file.metadata()?);
    let own = std::process::id();
    let mut agent = Agent::start(["--min-latency=0", "--pid", &own.to_string()])?;
    agent.repeat_until_stall(|| {
        memory.write(1);
        memory.sync()
    })?;
    let recording = agent.stop()?;
    for stall in recording.stalls() {
        ensure!(
            stall.fs.as_deref() == Some("fuse")
                && stall.device.as_deref() == Some("the-source")
                && stall.dev == Some(dev)
                && stall.path.as_deref().map(Path::new) == Some(server.file())
                && stall.server_pid == Some(own),
            "{stall:?}"
        );
    }
    // Before the file system is unmounted.
    drop(memory);
    Ok(())
}
