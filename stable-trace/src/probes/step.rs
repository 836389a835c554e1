//! Attaches single programs.

use std::{collections::BTreeSet, os::fd::AsFd as _, path::Path};

use aya::{
    Btf, Ebpf, Endianness,
    programs::{
        FEntry, FExit, KProbe, Program, ProgramError, RawTracePoint, TracePoint, kprobe::KProbeLink,
    },
};

use crate::kernel::btf::only_functions;

use super::{
    facts::Facts,
    kretprobe::{Kretprobe, KretprobeError},
    plan::{Point, Step},
};

/// Why one program is not attached.
#[derive(Debug, thiserror::Error)]
pub(super) enum StepError {
    #[error(transparent)]
    Program(#[from] ProgramError),
    #[error(transparent)]
    Kretprobe(#[from] KretprobeError),
    #[error("cannot read the kernel's BTF: {0}")]
    Btf(String),
}

/// An error and its sources on one line.
pub(super) fn first_lines(error: &dyn std::error::Error) -> String {
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

/// What keeps a step attached beside its loaded program. Drop detaches it.
#[derive(Debug)]
pub(super) enum Hold {
    /// The program itself, which has one attach point.
    Program,
    /// One of the functions of a program.
    Kprobe {
        #[expect(unused, reason = "its drop detaches")]
        link: KProbeLink,
    },
    /// aya does not manage these.
    Kretprobe(Kretprobe),
}

/// BTF for aya, which looks up the functions of the steps there; `None` if they need none.
pub(super) fn functions_of(steps: &[Step], facts: &Facts) -> Option<Result<Btf, String>> {
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

/// Loads and attaches one program.
pub(super) fn attach_step(
    ebpf: &mut Ebpf,
    step: &Step,
    btf: Option<&Result<Btf, String>>,
    tracefs: &Path,
) -> Result<Hold, StepError> {
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
            let link = program.attach(symbol, 0)?;
            return Ok(Hold::Kprobe { link: program.take_link(link)? });
        }
        Point::Kretprobe { function, symbol } => {
            let program: &mut KProbe = program.try_into()?;
            load_once(program)?;
            let program = program.fd()?.as_fd();
            return Ok(Hold::Kretprobe(Kretprobe::attach(tracefs, function, symbol, program)?));
        }
    }
    Ok(Hold::Program)
}

/// A program of type kprobe can attach to several functions.
fn load_once(program: &mut KProbe) -> Result<(), ProgramError> {
    match program.load() {
        Err(ProgramError::AlreadyLoaded) => Ok(()),
        outcome => outcome,
    }
}

/// Unloads a program, which detaches what it holds itself.
pub(super) fn unload(name: &str, program: &mut Program) {
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
