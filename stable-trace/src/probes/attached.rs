//! The attached programs, and how they follow the modules that they are attached to.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    path::Path,
};

use aya::{
    Ebpf,
    maps::{Array, MapError},
    programs::Program,
};
use stable_trace_analysis::event::{Group, Method, Probe};
use stable_trace_common::folio::BtrfsOffsets;

use super::{
    facts::Facts,
    plan::{Plan, Step, replan},
    step::{Hold, attach_step, first_lines, functions_of, unload},
    table::integrity::{REQUEST, REQUEST_PROGRAM},
};
use crate::kernel::modules::LoadedModule;

/// The map with the offsets of btrfs's structures.
pub(super) const BTRFS_OFFSETS: &str = "BTRFS_OFFSETS";

/// The attached programs. Drop detaches them.
pub(crate) struct Attached {
    /// Programs and maps.
    pub(crate) ebpf: Ebpf,
    /// While this descriptor is open, the kernel measures the run time of programs
    /// (`BPF_ENABLE_STATS`, 5.8). `None` if that is off or not permitted.
    pub(crate) statistics: Option<OwnedFd>,
    plan: Plan,
    /// What became of each step of the plan.
    states: Vec<State>,
    /// Missed returns of kretprobes that are gone, by function.
    missed_before: BTreeMap<String, u64>,
}

/// What became of a step.
struct State {
    /// Or why it is not attached.
    outcome: Result<Hold, String>,
    /// The module with the probed function.
    module: Option<LoadedModule>,
}

impl Attached {
    /// Attaches the loaded programs by the plan.
    pub(super) fn new(
        ebpf: Ebpf,
        statistics: Option<OwnedFd>,
        plan: Plan,
        facts: &Facts,
        tracefs: &Path,
    ) -> Self {
        let (states, missed_before) = (Vec::new(), BTreeMap::new());
        let mut attached = Self { ebpf, statistics, plan, states, missed_before };
        attached.attach_rest(facts, tracefs);
        attached.detach_incomplete_waits();
        attached
    }

    /// Whether any step is attached.
    pub(super) fn has_any(&self) -> bool {
        self.states.iter().any(|state| state.outcome.is_ok())
    }

    /// All probes of the plan, attached or not.
    pub(crate) fn probes(&self) -> Vec<Probe> {
        let outcomes = self.states.iter().map(|state| state.outcome.as_ref().err().cloned());
        let steps: Vec<_> = self.plan.steps.iter().zip(outcomes).collect();
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

    /// Whether a module in which a function is probed was removed, or loaded again since: its probes are dead then.
    pub(crate) fn lost_a_module(&self) -> bool {
        self.states.iter().any(State::lost_its_module)
    }

    /// Plans again, removes the probes of modules that were removed, and attaches those of modules that were loaded,
    /// perhaps again. `requested` is `--attach`.
    pub(crate) fn follow_modules(
        &mut self,
        facts: &Facts,
        requested: Option<Method>,
        tracefs: &Path,
    ) {
        self.remove_dead();
        let plan = replan(facts, requested, &self.plan.offsets);
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
        self.attach_rest(facts, tracefs);
    }

    /// Removes the steps whose module is gone. The kernel leaves a kprobe of a removed module in place, which never runs
    /// again (`kprobes_module_callback`, kernel/kprobes.c, 5.10 to 7.3).
    fn remove_dead(&mut self) {
        let dead: Vec<_> = self.states.iter().map(State::lost_its_module).collect();
        let mut of_steps = dead.iter().copied();
        self.plan.steps.retain(|_| !of_steps.next().unwrap_or_default());
        let mut of_states = dead.into_iter();
        for gone in self.states.extract_if(.., |_| of_states.next().unwrap_or_default()) {
            if let Ok(Hold::Kretprobe(kretprobe)) = &gone.outcome {
                let missed = self.missed_before.entry(kretprobe.function().to_owned()).or_default();
                *missed += kretprobe.missed().unwrap_or(0);
            }
        }
    }

    /// Attaches the steps that have no state yet.
    fn attach_rest(&mut self, facts: &Facts, tracefs: &Path) {
        let steps = self.plan.steps.get(self.states.len()..).unwrap_or_default();
        let btf = functions_of(steps, facts);
        for step in steps {
            let function = step.point.function();
            let module = facts.functions.get(&function).and_then(|found| found.module.as_deref());
            // Before it attaches: if it is loaded again meanwhile, the probe may be dead.
            let module = module.map(LoadedModule::find);
            let outcome = attach_step(&mut self.ebpf, step, btf.as_ref(), tracefs);
            let outcome = outcome.map_err(|error| {
                let reason = first_lines(&error);
                log::warn!("cannot attach to {function}: {reason}");
                reason
            });
            self.states.push(State { outcome, module });
        }
    }

    /// Detaches the whole group if a step for the beginning or the end of waits failed: one is of no use
    /// without the other.
    fn detach_incomplete_waits(&mut self) {
        let mut steps = self.plan.steps.iter().zip(&self.states);
        let failed = steps.find_map(|(step, state)| {
            (step.group == Group::WritebackWait && state.outcome.is_err())
                .then(|| step.point.function())
        });
        let Some(failed) = failed else { return };
        for (step, state) in self.plan.steps.iter().zip(&mut self.states) {
            if step.group == Group::WritebackWait && state.outcome.is_ok() {
                state.outcome = Err(format!("of no use without {failed}"));
                if let Some(program) = self.ebpf.program_mut(step.program) {
                    unload(step.program, program);
                }
            }
        }
    }

    /// Detaches all programs. A program that runs at this moment runs to its end.
    pub(crate) fn detach(&mut self) {
        for state in &mut self.states {
            if let Ok(Hold::Kprobe { .. } | Hold::Kretprobe(_)) = state.outcome {
                state.outcome = Ok(Hold::Program);
            }
        }
        for (name, program) in self.ebpf.programs_mut() {
            unload(name, program);
        }
    }

    /// An upper bound of the missed runs, by probed function: runs that the kernel skipped because
    /// another task was in the program (`recursion_misses` of `bpf_prog_show_fdinfo`,
    /// kernel/bpf/syscall.c, from 5.12 on), and returns without a kretprobe instance. If several
    /// programs do the same work, a run is missed only if all were skipped.
    pub(crate) fn missed(&self) -> BTreeMap<String, u64> {
        let mut missed = self.missed_of(|_| true);
        for (function, returns) in &self.missed_before {
            *missed.entry(function.clone()).or_default() += returns;
        }
        missed
    }

    /// How many ends of waits may have been missed.
    pub(crate) fn missed_ends(&self) -> u64 {
        self.missed_of(|group| group == Group::WritebackWait).values().sum()
    }

    /// How many runs were missed that would have seen a writer.
    pub(crate) fn missed_writes(&self) -> u64 {
        let groups = [Group::WriteBegin, Group::PageMkwrite];
        self.missed_of(|group| groups.contains(&group)).values().sum()
    }

    /// [`missed`](Self::missed) of some groups.
    fn missed_of(&self, wanted: impl Fn(Group) -> bool) -> BTreeMap<String, u64> {
        let mut skipped: BTreeMap<(String, &str), u64> = BTreeMap::new();
        let mut missed: BTreeMap<String, u64> = BTreeMap::new();
        let mut programs = BTreeSet::new();
        let twice = self.plan.probes_requests_twice();
        let steps = self.plan.steps.iter().zip(&self.states);
        // What writes times down only helps others, which do the work without it.
        let counted = |step: &Step| wanted(step.group) && !step.program.ends_with("_time");
        for (step, state) in steps.filter(|(step, _)| counted(step)) {
            let Ok(hold) = &state.outcome else { continue };
            if let Hold::Kretprobe(kretprobe) = hold {
                *missed.entry(step.point.function()).or_default() +=
                    kretprobe.missed().unwrap_or(0);
            }
            let count = self.ebpf.program(step.program).and_then(recursion_misses);
            // A program on several functions has one count: it goes to the first function.
            let count = count.filter(|_| programs.insert(step.program));
            let least = skipped.entry(work_of(step, twice)).or_insert(u64::MAX);
            *least = count.unwrap_or(0).min(*least);
        }
        for ((function, _), count) in skipped {
            *missed.entry(function).or_default() += count;
        }
        missed
    }
}

impl State {
    /// Whether the module was removed, or loaded again since.
    fn lost_its_module(&self) -> bool {
        self.module.as_ref().is_some_and(|module| !module.is_loaded())
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

/// Writes the offsets by which the programs find the subvolume of a btrfs inode. Before they attach: a wait
/// must not be identified without its subvolume.
pub(super) fn set_btrfs_offsets(ebpf: &mut Ebpf, offsets: BtrfsOffsets) -> Result<(), MapError> {
    let slots = ebpf.map_mut(BTRFS_OFFSETS).ok_or(MapError::ElementNotFound)?;
    Array::<_, BtrfsOffsets>::try_from(slots)?.set(0, offsets, 0)
}
