//! Group `integrity`: the functions where failed checks are observed, and where the failed check is
//! reported.

use stable_trace_analysis::event::{Group, Method};
use stable_trace_common::offsets::ABSENT;

use super::{Part, Point, Step, allowed, check_fentry, kprobe_symbol};
use crate::probes::{
    facts::Facts,
    offsets::{Resolved, btrfs},
    table::integrity::{
        BIO, BIO_TRACEPOINT, BTRFS_ERROR, BTRFS_LOG, CHECK_REPORTERS, CheckReporter, LOOP, REQUEST,
        REQUEST_TRACEPOINT, SUBMIT, SUBMIT_EARLY, VERIFY, Variants, Verify,
    },
};

const GROUP: Group = Group::Integrity;

/// The reporters of failed checks come first: a failure that is observed before them has no check.
pub(super) fn part(facts: &Facts, resolved: &Resolved, requested: Option<Method>) -> Part {
    let mut part = Part::default();
    for reporter in &CHECK_REPORTERS {
        plan_reporter(facts, resolved, reporter, requested, &mut part);
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
    if requested.is_none() && facts.skips_programs() {
        request_again(facts, &requests, &mut part);
    }
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
    file_system(facts, resolved, requested, &mut part);
    part
}

/// The variant of a program that this kernel accepts.
fn variant(facts: &Facts, [looped, unrolled]: Variants) -> &'static str {
    if facts.functions.contains_key(LOOP) { looped } else { unrolled }
}

/// A function that can be probed by three methods.
struct Alternatives {
    function: &'static str,
    tracepoint: (&'static str, &'static str),
    /// Methods by preference.
    order: [Method; 3],
    /// Programs for fentry, tracepoint and kprobe.
    programs: [Variants; 3],
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
        let function = self.function;
        let [fentry, raw_tracepoint, kprobe] = self.programs.map(|program| variant(facts, program));
        let methods = self.order.into_iter().filter(|method| allowed(requested, *method));
        let candidates = methods.map(|method| {
            let probed = match method {
                Method::Tracepoint => format!("{system}:{name}"),
                _ => function.to_owned(),
            };
            let step = readable.clone().and_then(|()| match method {
                Method::Fentry => {
                    check_fentry(facts, function).map(|()| (fentry, Point::Fentry(function)))
                }
                Method::Tracepoint => check_raw_tracepoint(facts, &probed)
                    .map(|()| (raw_tracepoint, Point::RawTracepoint { system, name })),
                Method::Kprobe => kprobe_symbol(facts, function)
                    .map(|symbol| (kprobe, Point::Kprobe { function, symbol })),
            });
            (probed, method, step.map(|step| vec![step]))
        });
        part.first_of(GROUP, candidates);
    }
}

/// Adds the tracepoint in the function that is probed by fentry: what fentry is skipped for is observed there.
fn request_again(facts: &Facts, requests: &Alternatives, part: &mut Part) {
    let at_entry = |step: &Step| matches!(step.point, Point::Fentry(REQUEST));
    let (system, name) = requests.tracepoint;
    if part.steps.iter().any(at_entry)
        && check_raw_tracepoint(facts, &format!("{system}:{name}")).is_ok()
    {
        let [_, program, _] = requests.programs;
        part.step(GROUP, variant(facts, program), Point::RawTracepoint { system, name });
    }
}

/// Checks that a raw tracepoint can be used, or returns why not.
fn check_raw_tracepoint(facts: &Facts, tracepoint: &str) -> Result<(), String> {
    match facts.refused.get("raw_tracepoint") {
        Some(reason) => Err(reason.clone()),
        None if facts.tracepoints.contains_key(tracepoint) => Ok(()),
        None => Err(format!("this kernel has no tracepoint {tracepoint}")),
    }
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
    let function = verify.function;
    let methods = [Method::Fentry, Method::Kprobe].into_iter();
    let candidates = methods.filter(|method| allowed(requested, *method)).map(|method| {
        let steps = if method == Method::Fentry {
            check_fentry(facts, function)
                .map(|()| vec![(variant(facts, verify.exit), Point::Fexit(function))])
        } else {
            kprobe_symbol(facts, function).map(|symbol| {
                let returns = Point::Kretprobe { function, symbol: symbol.clone() };
                let enter = Point::Kprobe { function, symbol };
                vec![(variant(facts, verify.returns), returns), (verify.enter, enter)]
            })
        };
        (function.to_owned(), method, steps)
    });
    part.first_of(GROUP, candidates);
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
    // The gap of the tracepoint method is of interest only if it is requested.
    let methods =
        [Method::Fentry, Method::Kprobe, Method::Tracepoint].into_iter().filter(|method| {
            allowed(requested, *method) && (requested.is_some() || *method != Method::Tracepoint)
        });
    let candidates = methods.map(|method| {
        // It needs requests that can be read.
        let step = resolved.requests.clone().and_then(|()| match method {
            Method::Fentry => {
                check_fentry(facts, SUBMIT)?;
                if facts.preempts_programs() {
                    // After a skipped run the task of an earlier bio at the same address would
                    // remain.
                    let skipped = "programs at trampolines can be preempted on this kernel, and \
                                   runs are skipped meanwhile";
                    return Err(skipped.to_owned());
                }
                Ok(("integrity_submit", Point::Fentry(SUBMIT)))
            }
            Method::Kprobe => kprobe_symbol(facts, SUBMIT).map(|symbol| {
                ("integrity_submit_kprobe", Point::Kprobe { function: SUBMIT, symbol })
            }),
            Method::Tracepoint => {
                Err("there is no tracepoint where protection information is generated".to_owned())
            }
        });
        (SUBMIT.to_owned(), method, step.map(|step| vec![step]))
    });
    part.first_of(GROUP, candidates);
    submit_early(facts, resolved, requested, part);
}

/// Plans the probes for the submitting task of bios that [`SUBMIT`] does not see.
fn submit_early(facts: &Facts, resolved: &Resolved, requested: Option<Method>, part: &mut Part) {
    let present =
        SUBMIT_EARLY.into_iter().filter(|function| facts.functions.contains_key(*function));
    for function in present {
        let method = requested.unwrap_or(Method::Kprobe);
        let step = if method == Method::Kprobe {
            resolved.requests.clone().and_then(|()| kprobe_symbol(facts, function))
        } else {
            Err(format!("the submitting task is read at {function} by kprobe only"))
        };
        match step {
            Ok(symbol) => {
                part.step(GROUP, "integrity_submit_early", Point::Kprobe { function, symbol });
            }
            Err(reason) => part.gap(GROUP, function, method, reason),
        }
    }
}

/// Plans the probes where btrfs finds a checksum wrong: that of the count, and that of the log, which has the file
/// and comes first.
fn file_system(facts: &Facts, resolved: &Resolved, requested: Option<Method>, part: &mut Part) {
    let method = requested.unwrap_or(Method::Kprobe);
    let known = || {
        if method != Method::Kprobe {
            return Err(format!(
                "wrong checksums of btrfs are read at {BTRFS_ERROR} by kprobe only"
            ));
        }
        if !facts.functions.contains_key(BTRFS_ERROR) {
            return Err(format!("module btrfs is not loaded, or has no function {BTRFS_ERROR}"));
        }
        resolved.identity.clone()?;
        if btrfs(facts).checksums_known == 0 {
            return Err("this kernel's BTF does not describe btrfs".to_owned());
        }
        kprobe_symbol(facts, BTRFS_ERROR)
    };
    let symbol = match known() {
        Ok(symbol) => symbol,
        Err(reason) => {
            part.gap(GROUP, BTRFS_ERROR, method, reason);
            return;
        }
    };
    let log = BTRFS_LOG.into_iter().find(|function| facts.functions.contains_key(*function));
    match log.map(|function| (function, kprobe_symbol(facts, function))) {
        Some((function, Ok(symbol))) => {
            part.step(GROUP, "btrfs_log", Point::Kprobe { function, symbol });
        }
        Some((function, Err(reason))) => part.gap(GROUP, function, method, reason),
        None => part.gap(GROUP, BTRFS_LOG[0], method, super::absent(BTRFS_LOG[0])),
    }
    let point = Point::Kprobe { function: BTRFS_ERROR, symbol };
    part.step(GROUP, "btrfs_device_error", point);
}

/// Plans the probe where a driver or the host reports the failed check.
fn plan_reporter(
    facts: &Facts,
    resolved: &Resolved,
    reporter: &CheckReporter,
    requested: Option<Method>,
    part: &mut Part,
) {
    if reporter.driver_pdu.is_some_and(|offset| offset(&resolved.offsets) != ABSENT) {
        // The check is read from the driver's part of the failed request.
        return;
    }
    let found = reporter.names.iter().find(|name| facts.functions.contains_key(**name));
    let function = match (found, reporter.names) {
        (Some(function), _) | (None, [function, ..]) => *function,
        (None, []) => return,
    };
    let method = requested.unwrap_or(Method::Kprobe);
    let step = if method == Method::Kprobe {
        match (found, reporter.module) {
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
        Ok(symbol) => part.step(GROUP, reporter.program, Point::Kprobe { function, symbol }),
        Err(reason) => part.gap(GROUP, function, method, reason),
    }
}
