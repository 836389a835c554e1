//! Group `write_begin`: the end of buffered writes, where they release their folio.

use stable_trace_analysis::event::{Group, Method};

use super::{Part, Point, absent, allowed, fentry_gap, kprobe_symbol};
use crate::probes::{
    facts::Facts,
    offsets::Resolved,
    table::{WRITE_ENDS, WriteEnd},
};

const GROUP: Group = Group::WriteBegin;

/// Plans a probe for each function of this kernel.
pub(super) fn part(facts: &Facts, resolved: &Resolved, requested: Option<Method>) -> Part {
    let mut part = Part::default();
    for write_end in WRITE_ENDS {
        if !superseded(facts, write_end) {
            write_end_probe(facts, resolved, requested, write_end, &mut part);
        }
    }
    part
}

/// Whether another function does this one's work here, so that its absence is no gap.
fn superseded(facts: &Facts, write_end: &WriteEnd) -> bool {
    let exists = |function: &str| facts.functions.contains_key(function);
    if exists(write_end.function) {
        return false;
    }
    let by = |other: &&WriteEnd| other.instead_of == Some(write_end.function);
    write_end.instead_of.is_some()
        || WRITE_ENDS.iter().filter(by).any(|other| exists(other.function))
}

fn write_end_probe(
    facts: &Facts,
    resolved: &Resolved,
    requested: Option<Method>,
    write_end: &WriteEnd,
    part: &mut Part,
) {
    let WriteEnd { function, module, .. } = *write_end;
    let preferred = if module.is_some() { Method::Kprobe } else { Method::Fentry };
    let method = requested.unwrap_or(preferred);
    if method == Method::Tracepoint {
        part.gap(GROUP, function, method, "there is no tracepoint at the end of a buffered write");
        return;
    }
    let programs = match programs(facts, resolved, write_end) {
        Ok(programs) => programs,
        Err(reason) => {
            part.gap(GROUP, function, method, reason);
            return;
        }
    };
    let (by_fentry, by_kprobe) = programs;
    let mut refusals = Vec::new();
    if allowed(requested, Method::Fentry) {
        match (fentry_gap(facts, function), by_fentry) {
            (None, Some(program)) => {
                part.step(GROUP, program, Point::Fentry(function));
                return;
            }
            (Some(reason), _) => refusals.push((Method::Fentry, reason)),
            // A module's function that is built into this kernel.
            (None, None) => refusals.push((
                Method::Fentry,
                format!(
                    "{function} is in a module on most kernels, so it is probed by kprobe only"
                ),
            )),
        }
    }
    if allowed(requested, Method::Kprobe) {
        match kprobe_symbol(facts, function) {
            Ok(symbol) => {
                part.step(GROUP, by_kprobe, Point::Kprobe { function, symbol });
                return;
            }
            Err(reason) => refusals.push((Method::Kprobe, reason)),
        }
    }
    for (method, reason) in refusals {
        part.gap(GROUP, function, method, reason);
    }
}

/// The programs that read this kernel's variant of the function: fentry and kprobe.
fn programs(
    facts: &Facts,
    resolved: &Resolved,
    write_end: &WriteEnd,
) -> Result<(Option<&'static str>, &'static str), String> {
    let function = write_end.function;
    let Some(found) = facts.functions.get(function) else {
        return Err(match write_end.module {
            Some(module) => format!("module {module} is not loaded, or has no function {function}"),
            None => absent(function),
        });
    };
    resolved.stability.clone()?;
    let index = match &found.parameters {
        Some(parameters) => write_end
            .parameters
            .iter()
            .find_map(|name| parameters.iter().position(|parameter| parameter == name)),
        None => write_end.always,
    };
    let index = index.ok_or_else(|| {
        format!("this kernel's BTF does not tell which argument of {function} is the folio")
    })?;
    write_end
        .programs
        .iter()
        .find(|(at, ..)| *at == index)
        .map(|(_, fentry, kprobe)| (*fentry, *kprobe))
        .ok_or_else(|| {
            format!(
                "the folio is argument {index} of {function}, which is not known; please report it"
            )
        })
}
