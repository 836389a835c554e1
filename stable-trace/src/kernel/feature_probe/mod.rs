//! Which hooks this kernel offers, found by trying: each kind of program is loaded for a moment.
//!
//! Configuration and version tell too little: a kernel with every option may refuse by policy, as
//! the one that this was written on refuses fentry.

mod trial;

use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::{btf::Btf, privileges::Privileges, release::System};
use trial::{Program, Step};

/// Where the kernel lists what performance events can be made of.
const EVENT_SOURCES: &str = "/sys/bus/event_source/devices";

/// Functions to hook on trial: the first is there for tests of BPF only (`net/bpf/test_run.c`, from
/// 5.5 on), the second runs once at the end.
const NEVER_HOT: [&str; 2] = ["bpf_fentry_test1", "kernel_power_off"];

/// Why a hook is not to be had, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}; {remedy}")]
pub struct Refusal {
    /// What the kernel said or lacks.
    pub reason: String,
    /// What would change it.
    pub remedy: String,
}

/// What this kernel offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hooks {
    /// fentry and fexit on functions of the kernel itself.
    pub fentry: Result<(), Refusal>,
    /// kprobes and kretprobes, through a performance event.
    pub kprobe: Result<(), Refusal>,
    /// Tracepoints, through a performance event.
    pub tracepoint: Result<(), Refusal>,
    /// Raw tracepoints: by name, without a performance event and without tracefs.
    pub raw_tracepoint: Result<(), Refusal>,
}

impl Hooks {
    /// Tries them all. `btf` is the running kernel's.
    #[must_use]
    pub fn try_all(btf: Option<&Btf<'_>>) -> Self {
        Self {
            fentry: try_fentry(btf),
            kprobe: event_source("kprobe", "CONFIG_KPROBES and CONFIG_KPROBE_EVENTS")
                .and_then(|()| load(Program::Kprobe)),
            tracepoint: event_source("tracepoint", "CONFIG_PERF_EVENTS and CONFIG_FTRACE")
                .and_then(|()| load(Program::Tracepoint)),
            raw_tracepoint: load(Program::RawTracepoint),
        }
    }
}

/// Whether fentry works, by loading an empty program and attaching it for a moment to a function
/// that does not run meanwhile.
///
/// # Errors
/// The refusal: no BTF, no permission, or no trampolines.
pub fn try_fentry(btf: Option<&Btf<'_>>) -> Result<(), Refusal> {
    let Some(btf) = btf else {
        return Err(Refusal {
            reason: "fentry needs the kernel's BTF, and there is none".to_owned(),
            remedy: "use a kernel with CONFIG_DEBUG_INFO_BTF".to_owned(),
        });
    };
    let Some(function) = NEVER_HOT.iter().find_map(|name| btf.function(name)) else {
        return Err(Refusal {
            reason: format!("the kernel has none of {} to try fentry on", NEVER_HOT.join(", ")),
            remedy: "please report it".to_owned(),
        });
    };
    load(Program::Fentry { function: function.id })
}

/// Whether kprobes can be had as performance events. aya's own test says yes without this.
///
/// # Errors
/// The refusal.
fn event_source(name: &str, options: &str) -> Result<(), Refusal> {
    source_below(Path::new(EVENT_SOURCES), name, options)
}

fn source_below(folder: &Path, name: &str, options: &str) -> Result<(), Refusal> {
    let path: PathBuf = folder.join(name).join("type");
    if path.exists() {
        return Ok(());
    }
    Err(Refusal {
        reason: format!("no {name} PMU: {} is not there", path.display()),
        remedy: format!("use a kernel with {options}"),
    })
}

fn load(program: Program) -> Result<(), Refusal> {
    trial::run(program).map_err(|(step, errno)| refusal(program, step, errno, permitted()))
}

/// Whether we hold what the kernel asks for, so that a refusal has another cause.
fn permitted() -> bool {
    let kernel = System::read().version();
    Privileges::read().is_ok_and(|privileges| privileges.missing(kernel).is_empty())
}

/// What an errno means at that step (`bpf_prog_load`, kernel/bpf/syscall.c, and
/// `bpf_check_attach_target`, kernel/bpf/verifier.c, 6.12).
fn refusal(program: Program, step: Step, errno: Errno, permitted: bool) -> Refusal {
    let kind = program.name();
    let did = match step {
        Step::Load => "load",
        Step::Attach => "attach",
    };
    let reason = format!("the kernel refuses to {did} a program for {kind}: {}", explain(errno));
    let remedy = match errno {
        Errno::PERM | Errno::ACCESS if permitted => {
            "a security policy of this machine forbids it (the capabilities are there): ask whoever \
             runs it, or do without"
        }
        Errno::PERM | Errno::ACCESS => "run as root, or give CAP_BPF and CAP_PERFMON",
        Errno::NOSYS => "use a kernel with CONFIG_BPF_SYSCALL",
        // ENOTSUPP, the kernel's own, which has no name outside of it.
        errno if errno.raw_os_error() == 524 => {
            "use a kernel with BPF trampolines on this machine: CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS"
        }
        Errno::INVAL | Errno::NOTSUP | Errno::TOOBIG => match program {
            Program::Fentry { .. } => {
                "use a kernel from 5.5 on with CONFIG_BPF_JIT and CONFIG_DEBUG_INFO_BTF"
            }
            _ => "use a kernel with CONFIG_BPF_EVENTS",
        },
        _ => "please report it",
    };
    Refusal { reason, remedy: remedy.to_owned() }
}

/// An errno's name and meaning, as far as bpf(2) has them.
fn explain(errno: Errno) -> String {
    let known = match errno {
        Errno::PERM => "EPERM, operation not permitted",
        Errno::ACCESS => "EACCES, permission denied",
        Errno::INVAL => "EINVAL, not known to this kernel",
        Errno::TOOBIG => "E2BIG, not known to this kernel",
        Errno::NOSYS => "ENOSYS, no bpf(2) in this kernel",
        Errno::NOTSUP => "EOPNOTSUPP, not supported",
        Errno::BUSY => "EBUSY, somebody else has it",
        Errno::NOMEM => "ENOMEM, no memory",
        errno if errno.raw_os_error() == 524 => "ENOTSUPP, not supported on this machine",
        other => return other.to_string(),
    };
    known.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::btf;

    #[test]
    fn a_missing_event_source_is_named() {
        let root = tempfile::tempdir().unwrap();
        let refusal = source_below(root.path(), "kprobe", "CONFIG_KPROBES").unwrap_err();
        assert!(refusal.reason.starts_with("no kprobe PMU: "), "{refusal}");
        assert_eq!(refusal.remedy, "use a kernel with CONFIG_KPROBES");
        std::fs::create_dir(root.path().join("kprobe")).unwrap();
        std::fs::write(root.path().join("kprobe/type"), "6\n").unwrap();
        source_below(root.path(), "kprobe", "CONFIG_KPROBES").unwrap();
    }

    #[test]
    fn a_refusal_says_what_was_refused_and_what_to_do() {
        let fentry = Program::Fentry { function: 1 };
        let refused = refusal(fentry, Step::Load, Errno::PERM, true);
        assert_eq!(
            refused.reason,
            "the kernel refuses to load a program for fentry: EPERM, operation not permitted"
        );
        assert!(refused.remedy.contains("security policy"));
        assert!(refusal(fentry, Step::Load, Errno::PERM, false).remedy.contains("CAP_BPF"));
        let arm = refusal(fentry, Step::Attach, Errno::from_raw_os_error(524), true);
        assert!(arm.reason.contains("attach") && arm.remedy.contains("trampolines"), "{arm}");
        assert!(refusal(fentry, Step::Load, Errno::INVAL, true).remedy.contains("BTF"));
        assert!(refusal(Program::Kprobe, Step::Load, Errno::INVAL, true).remedy.contains("EVENTS"));
    }

    #[test]
    fn the_running_kernels_hooks() {
        let bytes = btf::read(Path::new(btf::VMLINUX)).ok();
        let btf = bytes.as_deref().and_then(|bytes| Btf::parse(bytes).ok());
        let began = std::time::Instant::now();
        let hooks = Hooks::try_all(btf.as_ref());
        eprintln!("{hooks:#?} in {:?}", began.elapsed());
        assert!(try_fentry(None).unwrap_err().reason.contains("BTF"));
    }
}
