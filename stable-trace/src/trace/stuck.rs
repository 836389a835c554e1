//! `stable-trace stuck`: looks once at every task, and tells which wait for writeback.

use std::{
    io::{self, Read as _},
    path::Path,
    thread,
    time::Duration,
};

use aya::{
    Btf, Ebpf,
    maps::{PerCpuArray, RingBuf},
    programs::{Iter, ProgramError, links::LinkError},
};
use bytes::Bytes;
use stable_trace_analysis::{error_chain::ErrorChain, event::Waiting};

use stable_trace_common::counter::Counter;

use super::{
    error::TracerError,
    setup::{enricher, gather, map},
};
use crate::{
    enrich::{
        Enricher,
        decode::{Record, decode},
    },
    kernel::{symbols::Symbols, tracefs::with_tracefs},
    probes::{
        facts::addresses,
        load::{Settings, loader},
        tasks::{TasksError, load_for_tasks},
    },
};

/// The program that runs once for each task.
const PROGRAM: &str = "waiting_tasks";

/// Room for some ten thousand tasks.
const RING_BYTES: u32 = 8 << 20;

/// Ages are measured from when this thread came onto its CPU.
const REST: Duration = Duration::from_millis(1);

/// Why tasks cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StuckError {
    /// The kernel's facts cannot be gathered, or the object cannot be loaded.
    #[error(transparent)]
    Tracer(#[from] TracerError),
    /// This kernel does not have what it takes.
    #[error(transparent)]
    Tasks(#[from] TasksError),
    /// The kernel refused the program.
    #[error("cannot look at tasks (run as root, or give CAP_BPF and CAP_PERFMON)")]
    Program(#[from] ProgramError),
    /// The kernel refused to run the program.
    #[error("cannot look at tasks (please report it)")]
    Iterator(#[from] LinkError),
    /// The program did not get through all tasks.
    #[error("cannot look at all tasks")]
    Read(#[source] io::Error),
}

/// The tasks of this PID namespace that wait for writeback, those that have waited longest first. `btf_file`: `--btf`.
/// `stacks`: with their stacks.
pub(crate) fn waiting_tasks(
    btf_file: Option<&Path>,
    stacks: bool,
) -> Result<Vec<Waiting>, StuckError> {
    let loader = loader();
    let symbols = Symbols::load().map_err(TracerError::from)?;
    let addresses = addresses(&symbols);
    let facts =
        with_tracefs(|tracefs| gather(tracefs, &symbols, btf_file)).map_err(TracerError::from)?;
    let settings = Settings { stacks, ..Settings::of_everybody(RING_BYTES, 0) };
    let mut ebpf = load_for_tasks(loader, &facts, &addresses, &settings)?;
    let ring = map(&mut ebpf, "EVENTS").map_err(TracerError::from)?;
    let mut ring = RingBuf::try_from(ring).map_err(TracerError::from)?;
    let mut enricher = enricher(&mut ebpf, symbols, Vec::new(), stacks)?;
    run(&mut ebpf)?;
    let counters = map(&mut ebpf, "COUNTERS").map_err(TracerError::from)?;
    let counters: PerCpuArray<_, u64> = counters.try_into().map_err(TracerError::from)?;
    let lost = counters.get(&(Counter::Lost as u32), 0).map_err(TracerError::from)?;
    let lost: u64 = lost.iter().sum();
    if lost != 0 {
        log::warn!("{lost} more tasks wait for writeback than there was room for");
    }
    let mut tasks = Vec::new();
    while let Some(item) = ring.next() {
        tasks.extend(waiting(&mut enricher, Bytes::copy_from_slice(&item)));
    }
    tasks.sort_by_key(|task| std::cmp::Reverse(task.age_ns));
    Ok(tasks)
}

/// Runs the program for each task.
fn run(ebpf: &mut Ebpf) -> Result<(), StuckError> {
    let absent = || ProgramError::InvalidName { name: PROGRAM.to_owned() };
    let program: &mut Iter = ebpf.program_mut(PROGRAM).ok_or_else(absent)?.try_into()?;
    let btf = Btf::from_sys_fs().map_err(ProgramError::from)?;
    program.load("task", &btf)?;
    let link = program.attach()?;
    let mut tasks = program.take_link(link)?.into_file()?;
    thread::sleep(REST);
    // The program writes no text: each read runs it for some tasks.
    let mut text = Vec::new();
    tasks.read_to_end(&mut text).map_err(StuckError::Read)?;
    Ok(())
}

/// A record as an event; `None` if it only helps others.
fn waiting(enricher: &mut Enricher, bytes: Bytes) -> Option<Waiting> {
    match decode(bytes) {
        Ok(Record::Waiting(record)) => enricher.waiting(&record),
        Ok(Record::Path(names)) => {
            enricher.paths.learn(&names);
            None
        }
        Ok(_) => None,
        Err(error) => {
            log::warn!("skipped a record: {}", ErrorChain(&error));
            None
        }
    }
}
