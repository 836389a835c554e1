//! Loads the programs, and attaches them by the plan.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use aya::{
    Btf, Ebpf, EbpfError, EbpfLoader, Endianness,
    maps::{Array, CgroupArray, MapError},
    programs::{FEntry, FExit, KProbe, Program, ProgramError, RawTracePoint, TracePoint},
    sys::Stats,
};
use stable_trace_analysis::{
    error_chain::ErrorChain,
    event::{Group, Method, Probe},
};
use stable_trace_common::folio::BtrfsOffsets;

use crate::kernel::btf::only_functions;

use super::{
    facts::{Addresses, Facts},
    kretprobe::{self, Kretprobe, KretprobeError},
    load::{Settings, load},
    plan::{Plan, Point, Step, replan},
    table::integrity::{REQUEST, REQUEST_PROGRAM},
};

/// Why tracing cannot start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AttachError {
    /// The object cannot be loaded.
    #[error("cannot load the eBPF programs (`stable-trace doctor` shows what is missing)")]
    Load(#[source] EbpfError),
    /// No probe of the plan can attach.
    #[error("nothing can attach: {0}; `stable-trace doctor` shows more")]
    Nothing(String),
    /// A map of the object is missing or has another type.
    #[error("cannot use the map {name} (please report it)")]
    Map {
        /// The map's name.
        name: &'static str,
        /// aya's error.
        #[source]
        source: MapError,
    },
    /// The folder of `--cgroup` cannot be used.
    #[error("cannot use the cgroup {} (name a folder of the cgroup2 file system)", path.display())]
    Cgroup {
        /// The folder.
        path: PathBuf,
        /// The kernel's error.
        #[source]
        source: std::io::Error,
    },
}

/// Why one program is not attached.
#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error(transparent)]
    Program(#[from] ProgramError),
    #[error(transparent)]
    Kretprobe(#[from] KretprobeError),
    #[error("cannot read the kernel's BTF: {0}")]
    Btf(String),
}

/// An error and its sources on one line.
fn first_lines(error: &dyn std::error::Error) -> String {
    let mut text = first_line(&error.to_string());
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {}", first_line(&cause.to_string()));
        source = cause.source();
    }
    text
}

/// The first line of a text. Of one with the verifier's log, the line of it that says why.
fn first_line(text: &str) -> String {
    const LOG: &str = "Verifier output: ";
    if let Some((what, log)) = text.split_once(LOG) {
        // The last line that is no statistics says why.
        let is_reason = |line: &&str| {
            !line.is_empty()
                && !["processed ", "verification time", "stack depth"]
                    .iter()
                    .any(|start| line.starts_with(start))
        };
        return format!("{what}{LOG}{}", log.lines().rev().find(is_reason).unwrap_or_default());
    }
    text.lines().next().unwrap_or_default().to_owned()
}

/// The attached programs. Drop detaches them.
pub(crate) struct Attached {
    /// Programs and maps.
    pub(crate) ebpf: Ebpf,
    /// While this descriptor is open, the kernel measures the run time of programs
    /// (`BPF_ENABLE_STATS`, 5.8). `None` if that is off or not permitted.
    pub(crate) statistics: Option<OwnedFd>,
    plan: Plan,
    /// The outcome of each step of the plan: `None`, or why it failed.
    outcomes: Vec<Option<String>>,
    kretprobes: Vec<(Group, String, Kretprobe)>,
}

/// Loads the programs and attaches them. `tracefs` is the root of tracefs. This must run in a mount
/// namespace where aya finds tracefs: aya reads the IDs of tracepoints there. It fails only if nothing
/// attaches; [`Attached::probes`] lists the probes that do not.
pub(crate) fn attach(
    loader: EbpfLoader<'static>,
    plan: Plan,
    facts: &Facts,
    addresses: &Addresses,
    settings: &Settings,
    tracefs: &Path,
) -> Result<Attached, AttachError> {
    if !plan.can_trace() {
        return Err(AttachError::Nothing(reasons(&plan.gaps)));
    }
    let mut ebpf = load(loader, &plan, addresses, settings).map_err(AttachError::Load)?;
    set_btrfs_offsets(&mut ebpf, plan.btrfs)?;
    if let Some(path) = &settings.cgroup {
        set_cgroup(&mut ebpf, path)?;
    }
    let statistics = settings.statistics.then(|| {
        aya::sys::enable_stats(Stats::RunTime)
            .inspect_err(|error| {
                log::debug!("the kernel does not measure programs: {}", ErrorChain(error));
            })
            .ok()
    });
    let statistics = statistics.flatten();
    kretprobe::remove_abandoned(tracefs);
    let mut attached =
        Attached { ebpf, statistics, plan, outcomes: Vec::new(), kretprobes: Vec::new() };
    attached.attach_from(0, facts, tracefs);
    attached.detach_incomplete_waits();
    if attached.outcomes.iter().all(Option::is_some) {
        return Err(AttachError::Nothing(reasons(&attached.probes())));
    }
    Ok(attached)
}

impl Attached {
    /// All probes of the plan, attached or not.
    pub(crate) fn probes(&self) -> Vec<Probe> {
        let steps: Vec<_> = self.plan.steps.iter().zip(self.outcomes.iter().cloned()).collect();
        self.plan.outcome(&steps)
    }

    /// Whether the end of a wait is observed at the return of the wait function.
    pub(crate) fn probes_returns(&self) -> bool {
        self.plan.probes_returns()
    }

    /// Whether processes are followed.
    pub(crate) fn follows(&self) -> bool {
        self.plan.follows()
    }

    /// Plans again, and attaches the new steps: the probes of modules that were loaded since. `requested`
    /// is `--attach`.
    pub(crate) fn attach_new(&mut self, facts: &Facts, requested: Option<Method>, tracefs: &Path) {
        let plan = replan(facts, requested, &self.plan.offsets);
        let attached = self.plan.steps.len();
        let new = plan.steps.into_iter().filter(|step| !self.plan.steps.contains(step));
        let new: Vec<_> = new.collect();
        self.plan.steps.extend(new);
        self.plan.gaps = plan.gaps;
        // Kept if btrfs was removed: nothing is mounted that would use them.
        if plan.btrfs.known != 0
            && let Err(error) = set_btrfs_offsets(&mut self.ebpf, plan.btrfs)
        {
            log::warn!("subvolumes of btrfs are not told apart: {}", first_lines(&error));
        }
        self.attach_from(attached, facts, tracefs);
    }

    /// Attaches the steps from an index on.
    fn attach_from(&mut self, first: usize, facts: &Facts, tracefs: &Path) {
        let steps = self.plan.steps.get(first..).unwrap_or_default();
        let btf = functions_of(steps, facts);
        for step in steps {
            let outcome = attach_step(&mut self.ebpf, step, btf.as_ref(), tracefs);
            let function = step.point.function();
            self.outcomes.push(match outcome {
                Ok(Some(kretprobe)) => {
                    self.kretprobes.push((step.group, function, kretprobe));
                    None
                }
                Ok(None) => None,
                Err(error) => {
                    let reason = first_lines(&error);
                    log::warn!("cannot attach to {function}: {reason}");
                    Some(reason)
                }
            });
        }
    }

    /// Detaches the whole group if a step for the beginning or the end of waits failed: one is of no use
    /// without the other.
    fn detach_incomplete_waits(&mut self) {
        let steps = self.plan.steps.iter().zip(&self.outcomes);
        let failed = steps.into_iter().find_map(|(step, outcome)| {
            (step.group == Group::WritebackWait && outcome.is_some()).then(|| step.point.function())
        });
        let Some(failed) = failed else { return };
        self.kretprobes.retain(|(group, ..)| *group != Group::WritebackWait);
        for (step, outcome) in self.plan.steps.iter().zip(&mut self.outcomes) {
            if step.group == Group::WritebackWait && outcome.is_none() {
                *outcome = Some(format!("of no use without {failed}"));
                if let Some(program) = self.ebpf.program_mut(step.program) {
                    unload(step.program, program);
                }
            }
        }
    }

    /// Detaches all programs. A program that runs at this moment runs to its end.
    pub(crate) fn detach(&mut self) {
        self.kretprobes.clear();
        for (name, program) in self.ebpf.programs_mut() {
            unload(name, program);
        }
    }

    /// An upper bound of the missed runs, by probed function: runs that the kernel skipped because
    /// another task was in the program (`recursion_misses` of `bpf_prog_show_fdinfo`,
    /// kernel/bpf/syscall.c, from 5.12 on), and returns without a kretprobe instance. If several
    /// programs do the same work, a run is missed only if all were skipped.
    pub(crate) fn missed(&self) -> BTreeMap<String, u64> {
        self.missed_of(|_| true)
    }

    /// How many runs were missed that would have seen a writer.
    pub(crate) fn missed_writes(&self) -> u64 {
        let groups = [Group::WriteBegin, Group::PageMkwrite];
        self.missed_of(|group| groups.contains(&group)).values().sum()
    }

    /// [`missed`](Self::missed) of some groups.
    fn missed_of(&self, wanted: impl Fn(Group) -> bool) -> BTreeMap<String, u64> {
        let mut skipped: BTreeMap<(String, &str), u64> = BTreeMap::new();
        let steps = self.plan.steps.iter().zip(&self.outcomes);
        let mut programs = BTreeSet::new();
        let twice = self.plan.probes_requests_twice();
        let attached = steps.filter(|(step, outcome)| outcome.is_none() && wanted(step.group));
        for (step, _) in attached {
            let count = self.ebpf.program(step.program).and_then(recursion_misses);
            // A program on several functions has one count: it goes to the first function.
            let count = count.filter(|_| programs.insert(step.program));
            let least = skipped.entry(work_of(step, twice)).or_insert(u64::MAX);
            *least = count.unwrap_or(0).min(*least);
        }
        let mut missed = BTreeMap::new();
        for ((function, _), count) in skipped {
            *missed.entry(function).or_default() += count;
        }
        for (_, function, kretprobe) in self.kretprobes.iter().filter(|(group, ..)| wanted(*group))
        {
            *missed.entry(function.clone()).or_default() += kretprobe.missed().unwrap_or(0);
        }
        missed
    }
}

/// The function that a program observes, and the work that it shares with others. `twice`: failed requests have two
/// programs.
fn work_of(step: &Step, twice: bool) -> (String, &'static str) {
    if twice && step.program.starts_with(REQUEST_PROGRAM) {
        return (REQUEST.to_owned(), REQUEST_PROGRAM);
    }
    (step.point.function(), step.program.trim_end_matches("_again"))
}

fn recursion_misses(program: &Program) -> Option<u64> {
    let fd = program.fd().ok()?.as_fd().as_raw_fd();
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
    info.lines().find_map(|line| line.strip_prefix("recursion_misses:"))?.trim().parse().ok()
}

fn unload(name: &str, program: &mut Program) {
    let outcome = match program {
        Program::TracePoint(program) => program.unload(),
        Program::RawTracePoint(program) => program.unload(),
        Program::FEntry(program) => program.unload(),
        Program::FExit(program) => program.unload(),
        Program::KProbe(program) => program.unload(),
        _ => Ok(()),
    };
    if let Err(error) = outcome {
        // A program that was never loaded cannot be unloaded.
        log::debug!("cannot unload {name}: {}", first_lines(&error));
    }
}

/// The reasons why probes did not attach, on one line.
fn reasons(probes: &[Probe]) -> String {
    let reasons = probes.iter().filter_map(|probe| {
        probe.reason.as_ref().map(|reason| format!("{}: {reason}", probe.function))
    });
    reasons.collect::<Vec<_>>().join("; ")
}

/// Loads and attaches one program. A kretprobe is returned, because aya does not manage it.
/// BTF for aya, which looks up the functions of the steps there; `None` if they need none.
fn functions_of(steps: &[Step], facts: &Facts) -> Option<Result<Btf, String>> {
    let functions = steps.iter().filter_map(|step| match step.point {
        Point::Fentry(function) | Point::Fexit(function) => Some(function),
        _ => None,
    });
    let functions: BTreeSet<_> = functions.collect();
    if functions.is_empty() {
        return None;
    }
    let mut ids = facts.type_ids();
    ids.retain(|function, _| functions.contains(function));
    // With `--btf` the IDs of the running kernel are not known.
    let btf = if ids.len() == functions.len() {
        Btf::parse(&only_functions(&ids), Endianness::default())
    } else {
        Btf::from_sys_fs()
    };
    Some(btf.map_err(|error| first_lines(&error)))
}

fn attach_step(
    ebpf: &mut Ebpf,
    step: &Step,
    btf: Option<&Result<Btf, String>>,
    tracefs: &Path,
) -> Result<Option<Kretprobe>, StepError> {
    let Some(program) = ebpf.program_mut(step.program) else {
        return Err(ProgramError::InvalidName { name: step.program.to_owned() }.into());
    };
    let btf = || match btf {
        Some(Ok(btf)) => Ok(btf),
        Some(Err(reason)) => Err(StepError::Btf(reason.clone())),
        None => Err(StepError::Btf("it was not loaded".to_owned())),
    };
    match &step.point {
        Point::Tracepoint { system, name, .. } => {
            let program: &mut TracePoint = program.try_into()?;
            program.load()?;
            program.attach(system, name)?;
        }
        Point::RawTracepoint { name, .. } => {
            let program: &mut RawTracePoint = program.try_into()?;
            program.load()?;
            program.attach(name)?;
        }
        Point::Fentry(function) => {
            let program: &mut FEntry = program.try_into()?;
            program.load(function, btf()?)?;
            program.attach()?;
        }
        Point::Fexit(function) => {
            let program: &mut FExit = program.try_into()?;
            program.load(function, btf()?)?;
            program.attach()?;
        }
        Point::Kprobe { symbol, .. } => {
            let program: &mut KProbe = program.try_into()?;
            load_once(program)?;
            program.attach(symbol, 0)?;
        }
        Point::Kretprobe { symbol, .. } => {
            let program: &mut KProbe = program.try_into()?;
            load_once(program)?;
            return Ok(Some(Kretprobe::attach(tracefs, symbol, program.fd()?.as_fd())?));
        }
    }
    Ok(None)
}

/// A program of type kprobe can attach to several functions.
fn load_once(program: &mut KProbe) -> Result<(), ProgramError> {
    match program.load() {
        Err(ProgramError::AlreadyLoaded) => Ok(()),
        outcome => outcome,
    }
}

/// Writes the offsets by which the programs find the subvolume of a btrfs inode. Before they attach: a wait
/// must not be identified without its subvolume.
fn set_btrfs_offsets(ebpf: &mut Ebpf, offsets: BtrfsOffsets) -> Result<(), AttachError> {
    let failed = |source| AttachError::Map { name: "BTRFS_OFFSETS", source };
    let slots = ebpf.map_mut("BTRFS_OFFSETS").ok_or(failed(MapError::ElementNotFound))?;
    let mut slots = Array::<_, BtrfsOffsets>::try_from(slots).map_err(failed)?;
    slots.set(0, offsets, 0).map_err(failed)
}

fn set_cgroup(ebpf: &mut Ebpf, path: &Path) -> Result<(), AttachError> {
    let cgroup = |source| AttachError::Cgroup { path: path.to_owned(), source };
    let folder = std::fs::File::open(path).map_err(cgroup)?;
    let map = |source| AttachError::Map { name: "CGROUPS", source };
    let slots = ebpf.map_mut("CGROUPS").ok_or(map(MapError::ElementNotFound))?;
    let mut slots = CgroupArray::try_from(slots).map_err(map)?;
    slots
        .set(0, folder.as_raw_fd(), 0)
        .map_err(|error| cgroup(std::io::Error::other(first_lines(&error))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verifiers_reason_is_shown_not_its_log() {
        let text = "returned 13. Verifier output: 0: R1=ctx()\n1: (79) r3 = *(u64 *)(r3 +0)\nR3 is out of range\n\
             processed 2 insns (limit 1000000)\nstack depth 16\n";
        assert_eq!(first_line(text), "returned 13. Verifier output: R3 is out of range");
        assert_eq!(first_line("no such file\n(more)"), "no such file");
        assert_eq!(first_line(""), "");
    }
}
