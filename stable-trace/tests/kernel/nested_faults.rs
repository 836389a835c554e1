//! System calls whose buffer is a file mapping: the agent distinguishes waits in the page fault
//! from waits in the write.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use stable_trace_analysis::event::{Context, Stall};

use crate::harness::shared_memory::{PAGE, SharedMemory};
use crate::harness::writeback::start_writeback;
use crate::harness::{
    Agent, BpfObjects, Disk, Fs, Requirement, Scratch, SlowDisk, Test, TracefsInstance, bpftool,
    host,
};

/// Accesses of each kind.
const TIMES: usize = 20;

pub(crate) fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for method in ["fentry", "kprobe"] {
        for fs in [Fs::Ext4, Fs::Xfs] {
            tests.push(
                Test::guest(format!("{method}_{fs}"), move || faults_in_system_calls(method, fs))
                    .requires_traced_pi_disk()
                    .requires(Requirement::Program("bpftool")),
            );
        }
    }
    tests
}

/// A mapped page of a file.
struct Mapped {
    file: File,
    memory: SharedMemory,
}

impl Mapped {
    fn new(path: &Path) -> Result<Self> {
        let file = page(path)?;
        let memory = SharedMemory::of(&file, 1)?;
        Ok(Self { file, memory })
    }
}

/// Creates a file of one page and writes it back.
fn page(path: &Path) -> Result<File> {
    std::fs::write(path, [1; PAGE]).context("cannot create a file")?;
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    file.sync_all().context("cannot write back")?;
    Ok(file)
}

fn faults_in_system_calls(method: &str, fs: Fs) -> Result<()> {
    let scratch = Scratch::new(fs, Disk::pi()?)?;
    let mapped = Mapped::new(&scratch.path().join("mapped"))?;
    let written = page(&scratch.path().join("written"))?;
    let source = page(&scratch.path().join("source"))?;
    let _slow = SlowDisk::new(scratch.disk(), Duration::from_millis(100), 4)?;
    let pid = std::process::id().to_string();
    let agent = Agent::start(["--attach", method, "--min-latency=0", "--pid", &pid])?;
    let objects = BpfObjects::of_process(agent.pid())?;
    let thread = rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned();
    let waits = TracefsInstance::recording_process(&host::wait_event(), thread)?;
    // A busy machine may finish the writeback before the access.
    let waited = |access: &dyn Fn() -> Result<()>| -> Result<usize> {
        let before = waits.hits()?;
        access()?;
        Ok(usize::from(waits.hits()? > before))
    };
    let (mut faults, mut writes) = (0, 0);
    for _ in 0..TIMES {
        // The store of a read() faults and waits for the mapping's page.
        faults += waited(&|| mapped.memory.read_from(&source))?;
        faults += waited(&|| {
            start_writeback(&mapped.file)?;
            mapped.memory.read_from(&source)
        })?;
        // A write() that faults on its buffer waits for the page that it writes to.
        writes += waited(&|| mapped.memory.write_to(&written))?;
        writes += waited(&|| {
            start_writeback(&written)?;
            mapped.memory.unmap_pages()?;
            mapped.memory.write_to(&written)
        })?;
    }
    bpftool::await_empty_task_maps(&objects)?;
    let recording = agent.stop()?;

    let summary = recording.summary()?;
    ensure!(summary.waits_unfinished == 0, "{summary:#?}");
    ensure!(summary.map_failures.is_empty(), "{:?}", summary.map_failures);
    let stalls: Vec<_> = recording.stalls().collect();
    // Where a task switch ends waits, one may have ended without sleep.
    let without_sleep = usize::from(method == "kprobe" && host::kernel_version() < (5, 16));
    let mapped = mapped.file.metadata()?.ino();
    stalls_of_file(&stalls, mapped, Context::PageMkwrite, faults, without_sleep)?;
    let written = written.metadata()?.ino();
    stalls_of_file(&stalls, written, Context::WriteBegin, writes, without_sleep)
}

/// The stalls of one file have one context, and there is one for each wait that tracefs saw.
fn stalls_of_file(
    stalls: &[&Stall],
    ino: u64,
    context: Context,
    waits: usize,
    without_sleep: usize,
) -> Result<()> {
    let of_file: Vec<_> = stalls.iter().filter(|stall| stall.ino == Some(ino)).collect();
    let unexpected = of_file.iter().find(|stall| stall.context != context);
    ensure!(unexpected.is_none(), "not {}: {unexpected:?}", context.name());
    let count = of_file.len();
    ensure!(waits * 2 > TIMES, "only {waits} accesses waited: too few to compare");
    ensure!(
        count <= waits && waits <= count + without_sleep,
        "{count} stalls, but {waits} waits in {}",
        context.name()
    );
    Ok(())
}
