//! The plan: from what this kernel has to what attaches, how, and what does not, and why. Pure.

mod integrity;
mod page_mkwrite;
mod write_begin;
mod writeback_wait;

use stable_trace_analysis::event::{Group, Method, Probe};
use stable_trace_common::offsets::Offsets;

use super::{
    facts::Facts,
    offsets::{Resolved, resolve},
};
use crate::kernel::release::Release;

/// Where the fields of the wait tracepoint stand in its record, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitRecord {
    /// Name of the backing device: 32 bytes.
    pub name_at: u32,
    /// Inode: 8 bytes.
    pub ino_at: u32,
    /// Page index: 8 bytes.
    pub index_at: u32,
}

/// Where a program attaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Point {
    /// A classic tracepoint, whose record the program reads.
    Tracepoint {
        /// Its system.
        system: &'static str,
        /// Its name.
        name: &'static str,
        /// Where its fields are.
        record: WaitRecord,
    },
    /// A raw tracepoint, whose arguments the program gets.
    RawTracepoint {
        /// Its system, for people: it attaches without.
        system: &'static str,
        /// Its name.
        name: &'static str,
    },
    /// The entry of a function of the kernel itself, by trampoline.
    Fentry(&'static str),
    /// The return of a function of the kernel itself, by trampoline.
    Fexit(&'static str),
    /// The entry of a function, by breakpoint or ftrace.
    Kprobe {
        /// Its name in the source.
        function: &'static str,
        /// Its symbol.
        symbol: String,
    },
    /// The return of a function, with a return address of the kernel's own on the stack.
    Kretprobe {
        /// Its name in the source.
        function: &'static str,
        /// Its symbol.
        symbol: String,
    },
}

impl Point {
    /// The probed function, or `system:name` of the tracepoint.
    #[must_use]
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

    /// How.
    #[must_use]
    pub const fn method(&self) -> Method {
        match self {
            Self::Tracepoint { .. } | Self::RawTracepoint { .. } => Method::Tracepoint,
            Self::Fentry(_) | Self::Fexit(_) => Method::Fentry,
            Self::Kprobe { .. } | Self::Kretprobe { .. } => Method::Kprobe,
        }
    }
}

/// One program that is to attach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The question it helps to answer.
    pub group: Group,
    /// The program, by its name in the object.
    pub program: &'static str,
    /// Where.
    pub point: Point,
}

/// What attaches on this kernel, and what does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// In the order of attaching: what ends something comes before what begins it.
    pub steps: Vec<Step>,
    /// What cannot attach, each with its reason.
    pub gaps: Vec<Probe>,
    /// What the programs read through.
    pub offsets: Offsets,
}

/// One group's part of the plan.
#[derive(Debug, Default)]
struct Part {
    steps: Vec<Step>,
    gaps: Vec<Probe>,
}

impl Part {
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
    /// Whether anything would be seen.
    #[must_use]
    pub const fn can_trace(&self) -> bool {
        !self.steps.is_empty()
    }

    /// Whether the ends of waits are seen as returns of the wait function.
    #[must_use]
    pub fn probes_returns(&self) -> bool {
        self.steps.iter().any(|step| {
            step.group == Group::WritebackWait
                && matches!(step.point, Point::Fexit(_) | Point::Kretprobe { .. })
        })
    }

    /// Every probe, as `doctor` shows it before anything attaches: the steps as if they will.
    #[must_use]
    pub fn probes(&self) -> Vec<Probe> {
        let outcomes: Vec<_> = self.steps.iter().map(|step| (step, None)).collect();
        self.outcome(&outcomes)
    }

    /// Every probe after attaching, with what came of each step: nothing, or why it failed. A
    /// function that is probed twice by one method (entry and return) is one probe.
    #[must_use]
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

/// Makes the plan; `only` is `--attach`.
#[must_use]
pub fn plan(facts: &Facts, only: Option<Method>) -> Plan {
    parts(facts, &resolve(facts), only)
}

/// Makes the plan anew for programs that are loaded and read through these offsets: what a module
/// that was loaded since lets be read, they do not read.
#[must_use]
pub fn replan(facts: &Facts, only: Option<Method>, offsets: &Offsets) -> Plan {
    parts(facts, &Resolved { offsets: *offsets, ..resolve(facts) }, only)
}

fn parts(facts: &Facts, resolved: &Resolved, only: Option<Method>) -> Plan {
    let parts = [
        writeback_wait::part(facts, resolved, only),
        write_begin::part(facts, resolved, only),
        page_mkwrite::part(facts, resolved, only),
        integrity::part(facts, resolved, only),
    ];
    let (mut steps, mut gaps) = (Vec::new(), Vec::new());
    for part in parts {
        steps.extend(part.steps);
        gaps.extend(part.gaps);
    }
    Plan { steps, gaps, offsets: resolved.offsets }
}

/// Whether `--attach` allows a method.
fn allowed(only: Option<Method>, method: Method) -> bool {
    only.is_none_or(|only| only == method)
}

/// Why fentry cannot be used on a function; it needs type information, and aya reaches functions of
/// the kernel itself only.
fn fentry_gap(facts: &Facts, function: &str) -> Option<String> {
    if let Some(reason) = facts.refused.get("fentry") {
        return Some(reason.clone());
    }
    let Some(found) = facts.functions.get(function) else {
        return Some(absent(function));
    };
    match &found.module {
        Some(module) => Some(format!(
            "fentry reaches functions of the kernel itself, and {function} is in module {module}"
        )),
        None if found.symbol != function => {
            Some(format!("the compiler made {} of {function}", found.symbol))
        }
        None => match &found.parameters {
            None => Some(format!("this kernel's BTF has no function {function}")),
            Some(parameters)
                if parameters.len() > TRAMPOLINE_ARGUMENTS && !long_trampolines(facts) =>
            {
                Some(format!(
                    "fentry takes functions of up to {TRAMPOLINE_ARGUMENTS} arguments before 6.6, \
                     and {function} has {}",
                    parameters.len()
                ))
            }
            Some(_) => None,
        },
    }
}

/// "x86-64 supports up to 6 arguments" (`arch_prepare_bpf_trampoline`, `arch/x86/net/bpf_jit_comp.c`,
/// 5.10 and 6.1), which says ENOTSUPP only when a program attaches.
const TRAMPOLINE_ARGUMENTS: usize = 6;

/// Whether a trampoline takes arguments on the stack, too: from 6.6 on.
fn long_trampolines(facts: &Facts) -> bool {
    Release::parse(&facts.release).is_some_and(|release| release >= Release::new(6, 6))
}

/// Why a kprobe cannot be used on a function, else its symbol.
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
