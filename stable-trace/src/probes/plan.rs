//! The plan: which programs attach on this kernel, how, and why others do not. Pure.

mod follow;
mod integrity;
mod page_mkwrite;
mod write_begin;
mod writeback_wait;

use stable_trace_analysis::event::{Group, Method, Probe};
use stable_trace_common::{folio::BtrfsOffsets, offsets::Offsets};

use super::{
    facts::Facts,
    offsets::{Resolved, btrfs, resolve},
    table::integrity::REQUEST_PROGRAM,
};
use crate::kernel::release::Release;

/// Offsets of fields in the record of the wait tracepoint, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitRecord {
    /// Name of the backing device: 32 bytes.
    pub name_at: u32,
    /// Inode number: 8 bytes.
    pub ino_at: u32,
    /// Page index: 8 bytes.
    pub index_at: u32,
}

/// Where a program attaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Point {
    /// A classic tracepoint. The program reads its record.
    Tracepoint {
        /// The system.
        system: &'static str,
        /// The name.
        name: &'static str,
        /// Offsets of its fields.
        record: WaitRecord,
    },
    /// A raw tracepoint. The program gets its arguments.
    RawTracepoint {
        /// The system, for output only.
        system: &'static str,
        /// The name.
        name: &'static str,
    },
    /// The entry of a function of the kernel itself, by trampoline.
    Fentry(&'static str),
    /// The return of a function of the kernel itself, by trampoline.
    Fexit(&'static str),
    /// The entry of a function, by breakpoint or ftrace.
    Kprobe {
        /// The name in the source.
        function: &'static str,
        /// The symbol.
        symbol: String,
    },
    /// The return of a function, by a replaced return address.
    Kretprobe {
        /// The name in the source.
        function: &'static str,
        /// The symbol.
        symbol: String,
    },
}

impl Point {
    /// The probed function, or `system:name` of a tracepoint.
    pub fn function(&self) -> String {
        match self {
            Self::Tracepoint { system, name, .. } | Self::RawTracepoint { system, name } => {
                format!("{system}:{name}")
            }
            Self::Fentry(function) | Self::Fexit(function) => (*function).to_owned(),
            Self::Kprobe { function, .. } | Self::Kretprobe { function, .. } => {
                (*function).to_owned()
            }
        }
    }

    /// The method to attach.
    pub const fn method(&self) -> Method {
        match self {
            Self::Tracepoint { .. } | Self::RawTracepoint { .. } => Method::Tracepoint,
            Self::Fentry(_) | Self::Fexit(_) => Method::Fentry,
            Self::Kprobe { .. } | Self::Kretprobe { .. } => Method::Kprobe,
        }
    }
}

/// A program to attach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The probe's group.
    pub group: Group,
    /// The program's name in the object.
    pub program: &'static str,
    /// Where it attaches.
    pub point: Point,
}

/// The programs to attach on a kernel, and what cannot attach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The steps in the order of attaching: the end of something comes before its beginning.
    pub steps: Vec<Step>,
    /// The probes that cannot attach, with the reasons.
    pub gaps: Vec<Probe>,
    /// The offsets for the programs.
    pub offsets: Offsets,
    /// The offsets of btrfs's structures.
    pub btrfs: BtrfsOffsets,
}

/// The part of the plan for one group.
#[derive(Debug, Default)]
struct Part {
    steps: Vec<Step>,
    gaps: Vec<Probe>,
}

/// A way to attach a probe: the probed function or tracepoint, the method, and the programs with
/// their attach points, or why it cannot be used.
type Candidate = (String, Method, Result<Vec<(&'static str, Point)>, String>);

impl Part {
    /// Plans the first candidate that works. If none does, each has a gap.
    fn first_of(&mut self, group: Group, candidates: impl Iterator<Item = Candidate>) {
        let mut gaps = Vec::new();
        for (function, method, steps) in candidates {
            match steps {
                Ok(steps) => {
                    for (program, point) in steps {
                        self.step(group, program, point);
                    }
                    return;
                }
                Err(reason) => gaps.push((function, method, reason)),
            }
        }
        for (function, method, reason) in gaps {
            self.gap(group, &function, method, reason);
        }
    }

    fn step(&mut self, group: Group, program: &'static str, point: Point) {
        self.steps.push(Step { group, program, point });
    }

    fn gap(&mut self, group: Group, function: &str, method: Method, reason: impl Into<String>) {
        self.gaps.push(Probe {
            group,
            function: function.to_owned(),
            method,
            attached: false,
            reason: Some(reason.into()),
        });
    }
}

impl Plan {
    /// Whether there is anything to attach.
    pub const fn can_trace(&self) -> bool {
        !self.steps.is_empty()
    }

    /// Whether the end of a wait is observed at the return of the wait function.
    pub fn probes_returns(&self) -> bool {
        self.steps.iter().any(|step| {
            step.group == Group::WritebackWait
                && matches!(step.point, Point::Fexit(_) | Point::Kretprobe { .. })
        })
    }

    /// Whether failed requests are observed by two programs.
    pub fn probes_requests_twice(&self) -> bool {
        self.steps.iter().filter(|step| step.program.starts_with(REQUEST_PROGRAM)).count() > 1
    }

    /// All probes for `doctor`, as if every step attached.
    pub fn probes(&self) -> Vec<Probe> {
        let outcomes: Vec<_> = self.steps.iter().map(|step| (step, None)).collect();
        self.outcome(&outcomes)
    }

    /// All probes after attaching. Each step has its outcome: `None`, or why it failed. A function that
    /// is probed twice by one method (entry and return) is one probe.
    pub fn outcome(&self, steps: &[(&Step, Option<String>)]) -> Vec<Probe> {
        let mut probes: Vec<Probe> = Vec::new();
        for (step, reason) in steps {
            let (function, method) = (step.point.function(), step.point.method());
            let same = probes.iter_mut().find(|probe| {
                probe.group == step.group && probe.function == function && probe.method == method
            });
            match same {
                Some(probe) => {
                    probe.attached &= reason.is_none();
                    probe.reason = probe.reason.take().or_else(|| reason.clone());
                }
                None => probes.push(Probe {
                    group: step.group,
                    function,
                    method,
                    attached: reason.is_none(),
                    reason: reason.clone(),
                }),
            }
        }
        probes.extend(self.gaps.iter().cloned());
        probes
    }
}

/// Plans for a kernel. `requested` is the method of `--attach`.
pub fn plan(facts: &Facts, requested: Option<Method>) -> Plan {
    parts(facts, &resolve(facts), requested)
}

/// Plans again for programs that are loaded with these offsets. Offsets of modules that were loaded
/// since are not used.
pub fn replan(facts: &Facts, requested: Option<Method>, offsets: &Offsets) -> Plan {
    parts(facts, &Resolved { offsets: *offsets, ..resolve(facts) }, requested)
}

fn parts(facts: &Facts, resolved: &Resolved, requested: Option<Method>) -> Plan {
    let parts = [
        writeback_wait::part(facts, resolved, requested),
        write_begin::part(facts, resolved, requested),
        page_mkwrite::part(facts, resolved, requested),
        integrity::part(facts, resolved, requested),
    ];
    let (mut steps, mut gaps) = (Vec::new(), Vec::new());
    for part in parts {
        steps.extend(part.steps);
        gaps.extend(part.gaps);
    }
    Plan { steps, gaps, offsets: resolved.offsets, btrfs: btrfs(facts) }
}

/// Whether `--attach` allows a method.
fn allowed(requested: Option<Method>, method: Method) -> bool {
    requested.is_none_or(|requested| requested == method)
}

/// Checks that fentry can be used on a function, or returns why not. It needs BTF, and aya supports
/// functions of the kernel itself only.
fn check_fentry(facts: &Facts, function: &str) -> Result<(), String> {
    if let Some(reason) = facts.refused.get("fentry") {
        return Err(reason.clone());
    }
    let Some(found) = facts.functions.get(function) else {
        return Err(absent(function));
    };
    match &found.module {
        Some(module) => Err(format!(
            "fentry reaches functions of the kernel itself, and {function} is in module {module}"
        )),
        None if found.symbol != function => {
            Err(format!("the compiler made {} of {function}", found.symbol))
        }
        None => match &found.parameters {
            None => Err(format!("this kernel's BTF has no function {function}")),
            Some(parameters)
                if parameters.len() > TRAMPOLINE_ARGUMENTS && !long_trampolines(facts) =>
            {
                Err(format!(
                    "fentry takes functions of up to {TRAMPOLINE_ARGUMENTS} arguments before 6.6, \
                     and {function} has {}",
                    parameters.len()
                ))
            }
            Some(_) => Ok(()),
        },
    }
}

/// "x86-64 supports up to 6 arguments" (`arch_prepare_bpf_trampoline`, `arch/x86/net/bpf_jit_comp.c`,
/// 5.10 and 6.1). The kernel returns ENOTSUPP only when a program attaches.
const TRAMPOLINE_ARGUMENTS: usize = 6;

/// Whether a trampoline supports arguments on the stack: from 6.6 on.
fn long_trampolines(facts: &Facts) -> bool {
    Release::parse(&facts.release).is_some_and(|release| release >= Release::new(6, 6))
}

/// The symbol for a kprobe on a function, or why there can be none.
fn kprobe_symbol(facts: &Facts, function: &str) -> Result<String, String> {
    if let Some(reason) = facts.refused.get("kprobe") {
        return Err(reason.clone());
    }
    facts.functions.get(function).map(|found| found.symbol.clone()).ok_or_else(|| absent(function))
}

fn absent(function: &str) -> String {
    format!("this kernel has no function {function}")
}

#[cfg(test)]
mod tests;
