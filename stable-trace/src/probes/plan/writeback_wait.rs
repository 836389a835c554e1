//! Group `writeback_wait`: the beginning and the end of waits.
//!
//! The cost of a call that finds no writeback: nothing at its beginning, because the tracepoint is
//! inside the loop that waits. At its return, fexit costs a trampoline and a failed look-up, and a
//! kretprobe a trap or an ftrace call and the same look-up. Tracepoints cost nothing there, but run at
//! each context switch. `cargo xtask bench` measures it.

use stable_trace_analysis::event::{Group, Method};

use super::{Part, Point, WaitRecord, allowed, check_fentry, kprobe_symbol};
use crate::{
    kernel::{release::Release, tracepoint::WAIT_SYSTEM},
    probes::{facts::Facts, offsets::Resolved, table::WAIT_FUNCTIONS},
};

const GROUP: Group = Group::WritebackWait;

/// Methods by preference: fexit is exact, the scheduler's tracepoint needs no return, and a kretprobe is
/// the last resort, because its instances can run out.
const PREFERENCE: [Method; 3] = [Method::Fentry, Method::Tracepoint, Method::Kprobe];

/// The same if programs at trampolines can be preempted, so that returns may be missed.
const PREFERENCE_PREEMPTED: [Method; 3] = [Method::Tracepoint, Method::Fentry, Method::Kprobe];

/// Plans the first method that works. If none does, each method has a gap.
pub(super) fn part(facts: &Facts, resolved: &Resolved, requested: Option<Method>) -> Part {
    let mut gaps = Part::default();
    let preference = if facts.preempts_programs() { PREFERENCE_PREEMPTED } else { PREFERENCE };
    for method in preference.into_iter().filter(|method| allowed(requested, *method)) {
        let part = match method {
            // The end by the scheduler replaces kretprobes where they would hide the callers.
            Method::Kprobe if kretprobe_hides_callers(facts) => {
                switches(facts, begin(facts, resolved))
            }
            Method::Fentry | Method::Kprobe => returns(facts, resolved, method),
            Method::Tracepoint => switches(facts, begin_or_record(facts, resolved)),
        };
        if part.gaps.is_empty() {
            // The gaps of better methods stay in the report.
            return Part { steps: part.steps, gaps: gaps.gaps };
        }
        gaps.gaps.extend(part.gaps);
    }
    gaps
}

/// The functions of this kernel that waits sleep in.
fn wait_functions(facts: &Facts) -> impl Iterator<Item = &'static str> {
    let line = WAIT_FUNCTIONS.iter().find(|[sink, _]| facts.functions.contains_key(*sink));
    let functions = line.into_iter().flatten().copied();
    functions.filter(|function| facts.functions.contains_key(*function))
}

/// Plans the beginning at the tracepoint, by its arguments, and the end at the return of the function.
fn returns(facts: &Facts, resolved: &Resolved, method: Method) -> Part {
    let mut part = Part::default();
    let begin = begin(facts, resolved);
    let functions: Vec<_> = wait_functions(facts).collect();
    if functions.is_empty() {
        let [[newer, _], [older, _]] = WAIT_FUNCTIONS;
        part.gap(GROUP, newer, method, format!("this kernel has neither {newer} nor {older}"));
    }
    for (index, function) in functions.into_iter().enumerate() {
        let point = match method {
            Method::Fentry => check_fentry(facts, function).map(|()| Point::Fexit(function)),
            _ => kprobe_symbol(facts, function).map(|symbol| Point::Kretprobe { function, symbol }),
        };
        let mut programs: &[_] = match (method, index) {
            // The last one that attaches runs first: `hlist_add_head` in `__bpf_trampoline_link_prog`,
            // kernel/bpf/trampoline.c, 6.0 to 7.0.
            (Method::Fentry, 0) => {
                &["writeback_wait_end", "writeback_wait_end_again", "writeback_wait_end_time"]
            }
            (Method::Fentry, _) => &[
                "writeback_wait_end_killable",
                "writeback_wait_end_killable_again",
                "writeback_wait_end_killable_time",
            ],
            _ => &["writeback_wait_return"],
        };
        if !facts.preempts_programs() {
            // The first is never preempted, so never skipped.
            programs = &programs[..1];
        }
        match (point, &begin) {
            (Ok(point), Ok(_)) => {
                for program in programs {
                    part.step(GROUP, program, point.clone());
                }
            }
            (Err(reason), _) => part.gap(GROUP, function, method, reason),
            (Ok(_), Err(reason)) => part.gap(GROUP, function, method, reason.as_str()),
        }
    }
    // A return is missed if all its programs are skipped, or a kretprobe has no free instance. What it leaves is removed
    // with its task, where that can be seen.
    let misses = method == Method::Kprobe || facts.preempts_programs();
    if begin.is_ok() && misses && !facts.refused.contains_key("raw_tracepoint") {
        let point = Point::RawTracepoint { system: "sched", name: "sched_process_free" };
        part.step(GROUP, "writeback_wait_free", point);
    }
    for (program, point) in begin.into_iter().flatten() {
        part.step(GROUP, program, point);
    }
    part
}

/// Whether a stack ends at a function with a kretprobe: the unwinder knows the return address that a
/// kretprobe puts on the stack only from 5.16 on (`unwind_recover_kretprobe`,
/// arch/x86/include/asm/unwind.h). Without its callers a wait has no context.
fn kretprobe_hides_callers(facts: &Facts) -> bool {
    Release::parse(&facts.release).is_some_and(|release| release < Release::new(5, 16))
}

/// Why the end of a wait cannot be observed at `sched_switch`.
fn switch_gap(facts: &Facts) -> Result<(), String> {
    // Whether a task is in the function is seen in its stack.
    match facts.refused.get("raw_tracepoint").or_else(|| facts.refused.get("addresses")) {
        Some(reason) => Err(reason.clone()),
        None if wait_functions(facts).next().is_none() => {
            let [[newer, _], [older, _]] = WAIT_FUNCTIONS;
            Err(format!("/proc/kallsyms has neither {newer} nor {older}"))
        }
        None => Ok(()),
    }
}

/// From this version on a program at a raw tracepoint can be preempted, and runs of other tasks are
/// skipped meanwhile (`__DO_TRACE_CALL` under SRCU, include/linux/tracepoint.h, 7.x). Measured: on 7.3
/// up to half of the runs, on 6.12 none. A program at a classic tracepoint runs with preemption off on
/// all kernels.
const RAW_TRACEPOINTS_PREEMPTED: Release = Release::new(7, 0);

/// Whether runs of a program at a raw tracepoint can be skipped.
pub(super) fn preempts_raw_tracepoints(facts: &Facts) -> bool {
    facts.preempts_programs()
        && Release::parse(&facts.release).is_none_or(|release| release >= RAW_TRACEPOINTS_PREEMPTED)
}

/// The programs that identify a folio for the program that reads the record.
pub(super) const IDENTIFY: [&str; 5] = [
    "writeback_wait_identify",
    "writeback_wait_identify_2",
    "writeback_wait_identify_3",
    "writeback_wait_identify_4",
    "writeback_wait_identify_5",
];

/// Plans the beginning of a wait, in the order of attaching: by the tracepoint's arguments, which lead to
/// the super block. Where raw tracepoints can be skipped, by its record, which has only the backing
/// device; the programs that read the arguments run before it then, and identify the folio.
fn begin(facts: &Facts, resolved: &Resolved) -> Result<Vec<(&'static str, Point)>, String> {
    let typed =
        begin_gap(facts, resolved).map(|name| Point::RawTracepoint { system: WAIT_SYSTEM, name });
    if !preempts_raw_tracepoints(facts) {
        return Ok(vec![("writeback_wait_begin_typed", typed?)]);
    }
    let (record, name) = (wait_record(facts)?, facts.wait_tracepoint().ok_or_else(no_tracepoint)?);
    let mut steps: Vec<_> = match typed {
        Ok(point) => IDENTIFY.map(|program| (program, point.clone())).into(),
        Err(_) => Vec::new(),
    };
    steps.push(("writeback_wait_begin", Point::Tracepoint { system: WAIT_SYSTEM, name, record }));
    Ok(steps)
}

/// As [`begin`]; where the arguments cannot be read, by the record alone.
fn begin_or_record(
    facts: &Facts,
    resolved: &Resolved,
) -> Result<Vec<(&'static str, Point)>, String> {
    begin(facts, resolved).or_else(|_| {
        let (record, name) =
            (wait_record(facts)?, facts.wait_tracepoint().ok_or_else(no_tracepoint)?);
        Ok(vec![("writeback_wait_begin", Point::Tracepoint { system: WAIT_SYSTEM, name, record })])
    })
}

/// The tracepoint whose arguments are read, or why they cannot be read.
fn begin_gap(facts: &Facts, resolved: &Resolved) -> Result<&'static str, String> {
    resolved.identity.clone()?;
    match facts.refused.get("raw_tracepoint") {
        Some(reason) => Err(reason.clone()),
        None => facts.wait_tracepoint().ok_or_else(no_tracepoint),
    }
}

fn no_tracepoint() -> String {
    format!("this kernel has no tracepoint {WAIT_SYSTEM}:folio_wait_writeback")
}

/// Plans the beginning at the tracepoint, and the end where the scheduler runs the task again. One is of
/// no use without the other.
fn switches(facts: &Facts, begin: Result<Vec<(&'static str, Point)>, String>) -> Part {
    let mut part = Part::default();
    let switch = "sched:sched_switch";
    let end = switch_gap(facts);
    match (begin, end) {
        (Ok(begin), Ok(())) => {
            let point = Point::RawTracepoint { system: "sched", name: "sched_switch" };
            part.step(GROUP, "writeback_wait_switch", point);
            for (program, point) in begin {
                part.step(GROUP, program, point);
            }
        }
        (begin, end) => {
            let name = facts.wait_tracepoint().unwrap_or("folio_wait_writeback");
            let wait = format!("{WAIT_SYSTEM}:{name}");
            let useless = |other: &str| format!("of no use without {other}");
            let begin = begin.err().unwrap_or_else(|| useless(switch));
            let end = end.err().unwrap_or_else(|| useless(&wait));
            part.gap(GROUP, &wait, Method::Tracepoint, begin);
            part.gap(GROUP, switch, Method::Tracepoint, end);
        }
    }
    part
}

/// The offsets of the tracepoint's fields, if each has the size that the program reads.
fn wait_record(facts: &Facts) -> Result<WaitRecord, String> {
    if let Some(reason) = facts.refused.get("tracepoint") {
        return Err(reason.clone());
    }
    let name = facts.wait_tracepoint().ok_or_else(no_tracepoint)?;
    let tracepoint = format!("{WAIT_SYSTEM}:{name}");
    let at = |field: &str, bytes: u32| {
        let fields = facts.tracepoints.get(&tracepoint);
        match fields.and_then(|fields| fields.get(field)) {
            Some((offset, size)) if *size == bytes => Ok(*offset),
            Some((_, size)) => {
                Err(format!("field `{field}` of {tracepoint} has {size} bytes here, not {bytes}"))
            }
            None => Err(format!("{tracepoint} has no field `{field}` here")),
        }
    };
    Ok(WaitRecord { name_at: at("name", 32)?, ino_at: at("ino", 8)?, index_at: at("index", 8)? })
}
