//! Loading the programs and attaching them as the plan says.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use aya::{
    Btf, Ebpf, EbpfError, EbpfLoader,
    maps::{CgroupArray, MapError},
    programs::{FEntry, FExit, KProbe, Program, ProgramError, RawTracePoint, TracePoint},
    sys::Stats,
};
use stable_trace_analysis::event::{Group, Method, Probe};

use super::{
    facts::{Facts, WaitText},
    kretprobe::{self, Kretprobe, KretprobeError},
    load::{Settings, load},
    plan::{Plan, Point, Step, replan},
};

/// Why nothing is traced.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The kernel takes none of the programs.
    #[error("cannot load the eBPF programs: {}; `stable-trace doctor` says what is missing", chain(.0))]
    Load(#[source] EbpfError),
    /// Not one probe of the plan could attach.
    #[error("nothing can attach: {0}; `stable-trace doctor` says more")]
    Nothing(String),
    /// A map of the object is not there or not as expected.
    #[error("the map {name} cannot be used: {source}; please report it")]
    Map {
        /// Its name.
        name: &'static str,
        /// What aya said.
        #[source]
        source: MapError,
    },
    /// The folder of `--cgroup` cannot be used.
    #[error("cannot use the cgroup {}: {source}; name a folder of the cgroup2 file system", path.display())]
    Cgroup {
        /// The folder.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
}

/// Why one program is not attached.
#[derive(Debug, thiserror::Error)]
enum StepError {
    /// aya's or the kernel's word.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// A kretprobe's.
    #[error(transparent)]
    Kretprobe(#[from] KretprobeError),
    /// The kernel's types cannot be read.
    #[error("the kernel's BTF cannot be read: {0}")]
    Btf(String),
}

/// An error with what caused it, on one line: the verifier's log is left to `-v`.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = first_line(&error.to_string());
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {}", first_line(&cause.to_string()));
        source = cause.source();
    }
    text
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

/// The programs, attached while this lives.
pub struct Attached {
    /// Programs and maps.
    pub ebpf: Ebpf,
    /// While it is open the kernel times the programs (`BPF_ENABLE_STATS`, 5.8); absent where it
    /// may not be asked to.
    pub statistics: Option<OwnedFd>,
    plan: Plan,
    /// What came of each step of the plan: nothing, or why it failed.
    outcomes: Vec<Option<String>>,
    kretprobes: Vec<(Group, String, Kretprobe)>,
}

/// Loads the programs and attaches them. `tracefs` is its root, and this must run where aya sees it,
/// too: it reads the tracepoints' ids there.
///
/// # Errors
/// [`AttachError`] if nothing could attach; a probe that could not is in the list otherwise.
pub fn attach(
    loader: EbpfLoader<'static>,
    plan: Plan,
    wait_text: &WaitText,
    settings: &Settings,
    tracefs: &Path,
) -> Result<Attached, AttachError> {
    if !plan.can_trace() {
        return Err(AttachError::Nothing(reasons(&plan.gaps)));
    }
    let mut ebpf = load(loader, &plan, wait_text, settings).map_err(AttachError::Load)?;
    if let Some(path) = &settings.cgroup {
        choose_cgroup(&mut ebpf, path)?;
    }
    let statistics = settings.statistics.then(|| {
        aya::sys::enable_stats(Stats::RunTime)
            .inspect_err(|error| log::debug!("the kernel will not time the programs: {error}"))
            .ok()
    });
    let statistics = statistics.flatten();
    kretprobe::clear_abandoned(tracefs);
    let mut attached =
        Attached { ebpf, statistics, plan, outcomes: Vec::new(), kretprobes: Vec::new() };
    attached.attach_from(0, tracefs);
    attached.withdraw_half_a_wait();
    if attached.outcomes.iter().all(Option::is_some) {
        return Err(AttachError::Nothing(reasons(&attached.probes())));
    }
    Ok(attached)
}

impl Attached {
    /// Every probe of the plan, attached or not.
    #[must_use]
    pub fn probes(&self) -> Vec<Probe> {
        let steps: Vec<_> = self.plan.steps.iter().zip(self.outcomes.iter().cloned()).collect();
        self.plan.outcome(&steps)
    }

    /// Whether the ends of waits are seen as returns of the wait function.
    #[must_use]
    pub fn probes_returns(&self) -> bool {
        self.plan.probes_returns()
    }

    /// Attaches what a new plan has more than the one so far: the probes of a module that was loaded
    /// since. `only` is `--attach`.
    pub fn follow(&mut self, facts: &Facts, only: Option<Method>, tracefs: &Path) {
        let plan = replan(facts, only, &self.plan.offsets);
        let known = self.plan.steps.len();
        let more = plan.steps.into_iter().filter(|step| !self.plan.steps.contains(step));
        let more: Vec<_> = more.collect();
        self.plan.steps.extend(more);
        self.plan.gaps = plan.gaps;
        self.attach_from(known, tracefs);
    }

    /// Attaches the steps from an index on.
    fn attach_from(&mut self, first: usize, tracefs: &Path) {
        // aya looks functions up in a copy of its own.
        let by_type = |step: &Step| matches!(step.point, Point::Fentry(_) | Point::Fexit(_));
        let steps = self.plan.steps.get(first..).unwrap_or_default();
        let btf = steps.iter().any(by_type).then(Btf::from_sys_fs);
        let btf = btf.map(|btf| btf.map_err(|error| chain(&error)));
        for step in steps {
            let outcome = step_in(&mut self.ebpf, step, btf.as_ref(), tracefs);
            let function = step.point.function();
            self.outcomes.push(match outcome {
                Ok(Some(kretprobe)) => {
                    self.kretprobes.push((step.group, function, kretprobe));
                    None
                }
                Ok(None) => None,
                Err(error) => {
                    let reason = chain(&error);
                    log::warn!("{function} does not attach: {reason}");
                    Some(reason)
                }
            });
        }
    }

    /// Takes the whole group back if one end of a wait failed: half a wait is none.
    fn withdraw_half_a_wait(&mut self) {
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

    /// Detaches every program; one that runs at this moment runs to its end.
    pub fn detach(&mut self) {
        self.kretprobes.clear();
        for (name, program) in self.ebpf.programs_mut() {
            unload(name, program);
        }
    }

    /// Runs that were missed at most, by probed function: what the kernel skipped because another
    /// task was in the program (`recursion_misses` of `bpf_prog_show_fdinfo`,
    /// kernel/bpf/syscall.c, from 5.12 on), and returns that found no kretprobe instance. Where
    /// several programs do the same work, a run is missed only if all were skipped.
    #[must_use]
    pub fn missed(&self) -> BTreeMap<String, u64> {
        let mut skipped: BTreeMap<(String, &str), u64> = BTreeMap::new();
        let steps = self.plan.steps.iter().zip(&self.outcomes);
        let mut programs = BTreeSet::new();
        for (step, _) in steps.filter(|(_, outcome)| outcome.is_none()) {
            let count = self.ebpf.program(step.program).and_then(recursion_misses);
            // A program on several functions counts for all of them: once, with the first.
            let count = count.filter(|_| programs.insert(step.program));
            let work = step.program.trim_end_matches("_again");
            let least = skipped.entry((step.point.function(), work)).or_insert(u64::MAX);
            *least = count.unwrap_or(0).min(*least);
        }
        let mut missed = BTreeMap::new();
        for ((function, _), count) in skipped {
            *missed.entry(function).or_default() += count;
        }
        for (_, function, kretprobe) in &self.kretprobes {
            *missed.entry(function.clone()).or_default() += kretprobe.missed().unwrap_or(0);
        }
        missed
    }
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
        // One that was never loaded has nothing to unload.
        log::debug!("{name}: {error}");
    }
}

/// The reasons of all that did not attach, on one line.
fn reasons(probes: &[Probe]) -> String {
    let reasons = probes.iter().filter_map(|probe| {
        probe.reason.as_ref().map(|reason| format!("{}: {reason}", probe.function))
    });
    reasons.collect::<Vec<_>>().join("; ")
}

/// Loads and attaches one program; a kretprobe is handed out, because aya does not know it.
fn step_in(
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
        None => Err(StepError::Btf("it was not asked for".to_owned())),
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

/// A program of type kprobe may attach to several functions.
fn load_once(program: &mut KProbe) -> Result<(), ProgramError> {
    match program.load() {
        Err(ProgramError::AlreadyLoaded) => Ok(()),
        outcome => outcome,
    }
}

fn choose_cgroup(ebpf: &mut Ebpf, path: &Path) -> Result<(), AttachError> {
    let cgroup = |source| AttachError::Cgroup { path: path.to_owned(), source };
    let folder = std::fs::File::open(path).map_err(cgroup)?;
    let map = |source| AttachError::Map { name: "CGROUPS", source };
    let slots = ebpf.map_mut("CGROUPS").ok_or(map(MapError::ElementNotFound))?;
    let mut slots = CgroupArray::try_from(slots).map_err(map)?;
    slots
        .set(0, folder.as_raw_fd(), 0)
        .map_err(|error| cgroup(std::io::Error::other(chain(&error))))
}
