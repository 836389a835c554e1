//! Failed integrity checks as tracefs has them, and as the agent does: to be held side by side.

use anyhow::{Context as _, Result, ensure};
use stable_trace_analysis::event::{Check, Event, IntegrityError, Operation};

use super::{Disk, Recording, TracefsInstance, host};

/// What both say of one failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Failure {
    /// What the request wanted.
    pub op: Operation,
    /// Its first sector.
    pub sector: u64,
    /// Its length in sectors of 512 bytes.
    pub sectors: u64,
}

/// The integrity errors of a run.
pub fn integrity(recording: &Recording) -> impl Iterator<Item = &IntegrityError> {
    recording.lines.iter().filter_map(|line| match &line.event {
        Event::Integrity(error) => Some(error),
        _ => None,
    })
}

/// Those on one disk, by operation and place.
pub fn told(recording: &Recording, disk: &Disk) -> Vec<Failure> {
    let of = |error: &&IntegrityError| error.device.as_deref() == Some(disk.name.as_str());
    let mut all: Vec<_> = integrity(recording)
        .filter(of)
        .map(|error| Failure { op: error.op, sector: error.sector, sectors: error.sectors })
        .collect();
    all.sort_unstable();
    all
}

/// The failed completions of one disk that an instance has, by operation and place.
pub fn completed(instance: &TracefsInstance, disk: &Disk) -> Result<Vec<Failure>> {
    let dev = disk.attribute("dev").context("a disk without a number")?.replace(':', ",");
    let mut all = Vec::new();
    for line in instance.lines()? {
        let (of, failure) = completion(&line).with_context(|| format!("not understood: {line}"))?;
        if of == dev {
            all.push(failure);
        }
    }
    all.sort_unstable();
    Ok(all)
}

/// `block_rq_complete: 8,0 WS () 40 + 8 [-84]`, from 6.8 on with a priority before the error.
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

/// The agent has told of just what tracefs has, and has counted it.
pub fn agree(recording: &Recording, instance: &TracefsInstance, disk: &Disk) -> Result<u64> {
    let (told, completed) = (told(recording, disk), completed(instance, disk)?);
    ensure!(told == completed, "told {}: {told:?}\ncompleted {completed:?}", told.len());
    let summary = recording.summary()?;
    let counted = summary.integrity_errors.iter();
    let counted = counted.filter(|line| line.device.as_deref() == Some(disk.name.as_str()));
    let counted: u64 = counted.map(|line| line.count).sum();
    ensure!(counted == told.len() as u64, "{counted} counted: {summary:#?}");
    ensure!(summary.events_lost == 0 && summary.map_failures.is_empty(), "{summary:#?}");
    Ok(counted)
}

/// No check is `unknown` where it is kept behind the request. Before there are types of modules it is
/// read by a kprobe, whose program is skipped where a completion interrupts another one's on the same
/// CPU (`bpf_prog_active`, `trace_call_bpf` in `kernel/trace/bpf_trace.c`). Seen on 5.10: 3 of 62 and 4
/// of 1,076.
pub fn checks_are_known(recording: &Recording) -> Result<()> {
    let all = integrity(recording).count();
    let unknown = integrity(recording).filter(|error| error.check == Check::Unknown).count();
    eprintln!("integrity: {unknown} of {all} without their check");
    let may_be = if host::modules_have_types() { 0 } else { all / 10 };
    ensure!(unknown <= may_be, "{unknown} of {all} without their check");
    Ok(())
}

pub fn lines_are_read() -> Result<()> {
    let old = "    sh-7  [000] d.s1  12.3: block_rq_complete: 8,0 WS () 40 + 8 [-84]";
    let new = " sh-7 [000] d.s1 12.3: block_rq_complete: 8,0 R () 4096 + 16 none,0,0 [-84]";
    let write = Failure { op: Operation::Write, sector: 40, sectors: 8 };
    ensure!(completion(old) == Some(("8,0", write)), "{:?}", completion(old));
    let read = Failure { op: Operation::Read, sector: 4096, sectors: 16 };
    ensure!(completion(new) == Some(("8,0", read)), "{:?}", completion(new));
    Ok(())
}
