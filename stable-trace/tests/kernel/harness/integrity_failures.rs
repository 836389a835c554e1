//! Compares the integrity errors that the agent reports with those that tracefs records.

use anyhow::{Context as _, Result, ensure};
use stable_trace_analysis::event::{Check, Event, IntegrityError, Operation};

use super::{Disk, Recording, TracefsInstance, host};

/// What agent and tracefs both report of one failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Failure {
    pub(crate) op: Operation,
    /// First sector.
    pub(crate) sector: u64,
    /// Length in sectors of 512 bytes.
    pub(crate) sectors: u64,
}

/// The integrity errors of a run.
pub(crate) fn integrity(recording: &Recording) -> impl Iterator<Item = &IntegrityError> {
    recording.lines.iter().filter_map(|line| match &line.event {
        Event::Integrity(error) => Some(error),
        _ => None,
    })
}

/// The integrity errors that the agent reports on one disk, sorted.
pub(crate) fn reported(recording: &Recording, disk: &Disk) -> Vec<Failure> {
    let on_disk = |error: &&IntegrityError| error.device.as_deref() == Some(disk.name.as_str());
    let mut all: Vec<_> = integrity(recording)
        .filter(on_disk)
        .map(|error| Failure {
            op: error.op,
            sector: error.sector.unwrap_or(u64::MAX),
            sectors: error.sectors,
        })
        .collect();
    all.sort_unstable();
    all
}

/// The failed completions of one disk that tracefs recorded, sorted.
pub(crate) fn completed(instance: &TracefsInstance, disk: &Disk) -> Result<Vec<Failure>> {
    let dev = disk.dev()?.replace(':', ",");
    let mut all = Vec::new();
    for line in instance.lines()? {
        let (failed_dev, failure) =
            completion(&line).with_context(|| format!("cannot parse: {line}"))?;
        if failed_dev == dev {
            all.push(failure);
        }
    }
    all.sort_unstable();
    Ok(all)
}

/// Parses `block_rq_complete: 8,0 WS () 40 + 8 [-84]`; from 6.8 on a priority precedes the error.
fn completion(line: &str) -> Option<(&str, Failure)> {
    let (_, rest) = line.split_once("block_rq_complete: ")?;
    let mut words = rest.split_whitespace();
    let dev = words.next()?;
    let op = if words.next()?.contains('W') { Operation::Write } else { Operation::Read };
    let mut numbers = words.skip_while(|word| *word != "()").skip(1);
    let sector = numbers.next()?.parse().ok()?;
    let sectors = numbers.nth(1)?.parse().ok()?;
    Some((dev, Failure { op, sector, sectors }))
}

/// The agent has reported and counted exactly the failures that tracefs recorded. Returns how many.
pub(crate) fn agent_agrees_with_tracefs(
    recording: &Recording,
    instance: &TracefsInstance,
    disk: &Disk,
) -> Result<u64> {
    let (reported, completed) = (reported(recording, disk), completed(instance, disk)?);
    ensure!(
        reported == completed,
        "the agent reports {}: {reported:?}\ntracefs has {completed:?}",
        reported.len()
    );
    let summary = recording.summary()?;
    let counted = summary.integrity_errors.iter();
    let counted = counted.filter(|line| line.device.as_deref() == Some(disk.name.as_str()));
    let counted: u64 = counted.map(|line| line.count).sum();
    ensure!(counted == reported.len() as u64, "{counted} counted: {summary:#?}");
    ensure!(summary.events_lost == 0 && summary.map_failures.is_empty(), "{summary:#?}");
    Ok(counted)
}

/// No check is `unknown` where the kernel has BTF of its modules.
/// Without BTF of modules a kprobe reads the check, and its program is skipped where a completion
/// interrupts another one on the same CPU (`bpf_prog_active`, `trace_call_bpf` in
/// `kernel/trace/bpf_trace.c`). Seen on 5.10: 3 of 62 and 4 of 1,076.
pub(crate) fn checks_are_known(recording: &Recording) -> Result<()> {
    let all = integrity(recording).count();
    let unknown = integrity(recording).filter(|error| error.check == Check::Unknown).count();
    eprintln!("integrity: {unknown} of {all} errors have an unknown check");
    let allowed = if host::modules_have_btf() { 0 } else { all / 10 };
    ensure!(unknown <= allowed, "{unknown} of {all} errors have an unknown check");
    Ok(())
}

pub(crate) fn completion_lines_are_parsed() -> Result<()> {
    let old = "    sh-7  [000] d.s1  12.3: block_rq_complete: 8,0 WS () 40 + 8 [-84]";
    let new = " sh-7 [000] d.s1 12.3: block_rq_complete: 8,0 R () 4096 + 16 none,0,0 [-84]";
    let write = Failure { op: Operation::Write, sector: 40, sectors: 8 };
    ensure!(completion(old) == Some(("8,0", write)), "{:?}", completion(old));
    let read = Failure { op: Operation::Read, sector: 4096, sectors: 16 };
    ensure!(completion(new) == Some(("8,0", read)), "{:?}", completion(new));
    Ok(())
}
