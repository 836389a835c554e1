//! Group `integrity`: the functions where failed checks are observed, and where the failed check is
//! reported.

use stable_trace_analysis::event::{Group, Method};
use stable_trace_common::offsets::ABSENT;

use super::{Part, Point, allowed, fentry_gap, kprobe_symbol};
use crate::probes::{
    facts::Facts,
    offsets::Resolved,
    table::integrity::{
        BIO, BIO_TRACEPOINT, LOOP, Looped, REQUEST, REQUEST_TRACEPOINT, SAID, SUBMIT, Said, VERIFY,
        Verify,
    },
};

const GROUP: Group = Group::Integrity;

/// The reporters of failed checks come first: a failure that is observed before them has no check.
pub(super) fn part(facts: &Facts, resolved: &Resolved, requested: Option<Method>) -> Part {
    let mut part = Part::default();
    for said in &SAID {
        reporter(facts, resolved, said, requested, &mut part);
    }
    submit(facts, resolved, requested, &mut part);
    let requests = Alternatives {
        function: REQUEST,
        tracepoint: REQUEST_TRACEPOINT,
        // The function is not called for completions in a batch, which are all successful; the
        // tracepoint fires for each of them.
        order: [Method::Fentry, Method::Tracepoint, Method::Kprobe],
        programs: [
            ["integrity_request", "integrity_request_unrolled"],
            ["integrity_request_tracepoint", "integrity_request_tracepoint_unrolled"],
            ["integrity_request_kprobe", "integrity_request_kprobe_unrolled"],
        ],
    };
    requests.plan(facts, &resolved.requests, requested, &mut part);
    let bios = Alternatives {
        function: BIO,
        tracepoint: BIO_TRACEPOINT,
        // The tracepoint fires for stacked devices only, the function for every bio.
        order: [Method::Tracepoint, Method::Fentry, Method::Kprobe],
        programs: [
            ["integrity_bio", "integrity_bio_unrolled"],
            ["integrity_bio_tracepoint", "integrity_bio_tracepoint_unrolled"],
            ["integrity_bio_kprobe", "integrity_bio_kprobe_unrolled"],
        ],
    };
    bios.plan(facts, &resolved.bios, requested, &mut part);
    verify(facts, resolved, requested, &mut part);
    part
}

/// The variant of a program that this kernel accepts.
fn variant(facts: &Facts, [looped, unrolled]: Looped) -> &'static str {
    if facts.functions.contains_key(LOOP) { looped } else { unrolled }
}

/// A function that can be probed by three methods.
struct Alternatives {
    function: &'static str,
    tracepoint: (&'static str, &'static str),
    /// Methods by preference.
    order: [Method; 3],
    /// Programs for fentry, tracepoint and kprobe.
    programs: [Looped; 3],
}

impl Alternatives {
    /// Plans the first method that works on this kernel.
    fn plan(
        &self,
        facts: &Facts,
        readable: &Result<(), String>,
        requested: Option<Method>,
        part: &mut Part,
    ) {
        let (system, name) = self.tracepoint;
        let mut gaps = Vec::new();
        for method in self.order.into_iter().filter(|method| allowed(requested, *method)) {
            let probed = match method {
                Method::Tracepoint => format!("{system}:{name}"),
                _ => self.function.to_owned(),
            };
            let [fentry, tracepoint, kprobe] = self.programs.map(|program| variant(facts, program));
            let step = readable.clone().and_then(|()| match method {
                Method::Fentry => match fentry_gap(facts, self.function) {
                    Some(reason) => Err(reason),
                    None => Ok((fentry, Point::Fentry(self.function))),
                },
                Method::Tracepoint => raw_tracepoint_gap(facts, &probed)
                    .map_or(Ok((tracepoint, Point::RawTracepoint { system, name })), Err),
                Method::Kprobe => kprobe_symbol(facts, self.function)
                    .map(|symbol| (kprobe, Point::Kprobe { function: self.function, symbol })),
            });
            match step {
                Ok((program, point)) => {
                    part.step(GROUP, program, point);
                    return;
                }
                Err(reason) => gaps.push((probed, method, reason)),
            }
        }
        for (probed, method, reason) in gaps {
            part.gap(GROUP, &probed, method, reason);
        }
    }
}

/// Why a raw tracepoint cannot be used.
fn raw_tracepoint_gap(facts: &Facts, tracepoint: &str) -> Option<String> {
    if let Some(reason) = facts.refused.get("raw_tracepoint") {
        return Some(reason.clone());
    }
    let known = facts.tracepoints.contains_key(tracepoint);
    (!known).then(|| format!("this kernel has no tracepoint {tracepoint}"))
}

/// Plans the probe where the host verifies reads.
fn verify(facts: &Facts, resolved: &Resolved, requested: Option<Method>, part: &mut Part) {
    let found = VERIFY.iter().find(|verify| facts.functions.contains_key(verify.function));
    let [Verify { function: newest, .. }, ..] = VERIFY;
    let function = found.map_or(newest, |verify| verify.function);
    let method = requested.unwrap_or(Method::Fentry);
    if method == Method::Tracepoint {
        let reason = "there is no tracepoint where the host verifies reads";
        part.gap(GROUP, function, method, reason);
        return;
    }
    let known = found.ok_or_else(|| super::absent(newest)).and_then(|verify| {
        resolved.verified.clone()?;
        known_form(facts, resolved, verify)
    });
    let verify = match known {
        Ok(verify) => verify,
        Err(reason) => {
            part.gap(GROUP, function, method, reason);
            return;
        }
    };
    let mut gaps = Vec::new();
    if allowed(requested, Method::Fentry) {
        match fentry_gap(facts, function) {
            None => {
                part.step(GROUP, variant(facts, verify.exit), Point::Fexit(verify.function));
                return;
            }
            Some(reason) => gaps.push((Method::Fentry, reason)),
        }
    }
    if allowed(requested, Method::Kprobe) {
        match kprobe_symbol(facts, function) {
            Ok(symbol) => {
                let function = verify.function;
                let returns = Point::Kretprobe { function, symbol: symbol.clone() };
                part.step(GROUP, variant(facts, verify.returns), returns);
                part.step(GROUP, verify.enter, Point::Kprobe { function, symbol });
                return;
            }
            Err(reason) => gaps.push((Method::Kprobe, reason)),
        }
    }
    for (method, reason) in gaps {
        part.gap(GROUP, function, method, reason);
    }
}

/// Checks that the function has the parameters that its programs read.
fn known_form(
    facts: &Facts,
    resolved: &Resolved,
    verify: &'static Verify,
) -> Result<&'static Verify, String> {
    let function = verify.function;
    let found = facts.functions.get(function);
    let Some(parameters) = found.and_then(|found| found.parameters.as_ref()) else {
        return Err(format!("this kernel's BTF has no function {function}"));
    };
    if parameters != verify.parameters {
        let parameters = parameters.join(", ");
        return Err(format!("{function}({parameters}) has unknown parameters"));
    }
    if verify.parameters.len() == 1 && resolved.offsets.payload_iter == ABSENT {
        return Err("this kernel's BTF has no member bio_integrity_payload.bio_iter".to_owned());
    }
    Ok(verify)
}

/// Plans the probe for the submitting task. Without it failures are counted, but name no task.
fn submit(facts: &Facts, resolved: &Resolved, requested: Option<Method>, part: &mut Part) {
    let mut gaps = Vec::new();
    for method in [Method::Fentry, Method::Kprobe, Method::Tracepoint] {
        let candidate =
            allowed(requested, method) && (requested.is_some() || method != Method::Tracepoint);
        if !candidate {
            continue;
        }
        // It needs requests that can be read.
        let step = resolved.requests.clone().and_then(|()| match method {
            Method::Fentry => match fentry_gap(facts, SUBMIT) {
                Some(reason) => Err(reason),
                // After a skipped run the task of an earlier bio at the same address would remain.
                None if facts.preempts_programs() => {
                    let skipped = "programs at trampolines can be preempted on this kernel, and \
                                   runs are skipped meanwhile";
                    Err(skipped.to_owned())
                }
                None => Ok(("integrity_submit", Point::Fentry(SUBMIT))),
            },
            Method::Kprobe => kprobe_symbol(facts, SUBMIT).map(|symbol| {
                ("integrity_submit_kprobe", Point::Kprobe { function: SUBMIT, symbol })
            }),
            Method::Tracepoint => {
                Err("there is no tracepoint where protection information is generated".to_owned())
            }
        });
        match step {
            Ok((program, point)) => {
                part.step(GROUP, program, point);
                return;
            }
            Err(reason) => gaps.push((method, reason)),
        }
    }
    for (method, reason) in gaps {
        part.gap(GROUP, SUBMIT, method, reason);
    }
}

/// Plans the probe where a driver or the host reports the failed check.
fn reporter(
    facts: &Facts,
    resolved: &Resolved,
    said: &Said,
    requested: Option<Method>,
    part: &mut Part,
) {
    let mut offsets = resolved.offsets;
    if said.kept.as_ref().is_some_and(|kept| *(kept.field.slot)(&mut offsets) != ABSENT) {
        // The failure is seen with its reason behind it.
        return;
    }
    let found = said.names.iter().find(|name| facts.functions.contains_key(**name));
    let function = match (found, said.names) {
        (Some(function), _) | (None, [function, ..]) => *function,
        (None, []) => return,
    };
    let method = requested.unwrap_or(Method::Kprobe);
    let step = if method == Method::Kprobe {
        match (found, said.module) {
            (None, Some(module)) => {
                Err(format!("module {module} is not loaded, or has no function {function}"))
            }
            _ => kprobe_symbol(facts, function),
        }
    } else {
        Err(format!("the failed check is read at {function} by kprobe only"))
    };
    // It needs requests that can be read.
    match resolved.requests.clone().and(step) {
        Ok(symbol) => part.step(GROUP, said.program, Point::Kprobe { function, symbol }),
        Err(reason) => part.gap(GROUP, function, method, reason),
    }
}
