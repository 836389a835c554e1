//! Tests which attach methods work on this kernel, by loading an empty program of each type.
//!
//! Configuration and version are not enough: a kernel with every option may refuse by policy.

mod empty_program;

use std::path::{Path, PathBuf};

use rustix::io::Errno;

use empty_program::{ProgramType, Stage};

use super::{btf::Btf, privileges::Privileges, release::System};

/// The list of PMUs, the sources of performance events.
const EVENT_SOURCES: &str = "/sys/bus/event_source/devices";

/// Functions to attach to in a test. The first exists for tests of BPF only (`net/bpf/test_run.c`,
/// from 5.5 on), the second runs once at power-off.
const IDLE_FUNCTIONS: [&str; 2] = ["bpf_fentry_test1", "kernel_power_off"];

/// Why a method does not work, and the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}; {remedy}")]
pub struct Refusal {
    /// The kernel's error, or the missing feature.
    pub reason: String,
    /// What to do.
    pub remedy: String,
}

/// The methods to attach programs; an error for each that does not work on this kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachMethods {
    /// fentry and fexit on functions of the kernel itself.
    pub fentry: Result<(), Refusal>,
    /// kprobes and kretprobes, through a performance event.
    pub kprobe: Result<(), Refusal>,
    /// Tracepoints, through a performance event.
    pub tracepoint: Result<(), Refusal>,
    /// Raw tracepoints: by name, without a performance event and without tracefs.
    pub raw_tracepoint: Result<(), Refusal>,
}

impl AttachMethods {
    /// Tests all methods. `btf` is the running kernel's.
    pub fn probe(btf: Option<&Btf<'_>>) -> Self {
        Self {
            fentry: probe_fentry(btf),
            kprobe: require_pmu("kprobe", "CONFIG_KPROBES and CONFIG_KPROBE_EVENTS")
                .and_then(|()| load(ProgramType::Kprobe)),
            tracepoint: require_pmu("tracepoint", "CONFIG_PERF_EVENTS and CONFIG_FTRACE")
                .and_then(|()| load(ProgramType::Tracepoint)),
            raw_tracepoint: load(ProgramType::RawTracepoint),
        }
    }
}

/// Loads an empty fentry program, and attaches it for a moment to a function that does not run
/// meanwhile.
fn probe_fentry(btf: Option<&Btf<'_>>) -> Result<(), Refusal> {
    let Some(btf) = btf else {
        return Err(Refusal {
            reason: "fentry needs the kernel's BTF, and there is none".to_owned(),
            remedy: "use a kernel with CONFIG_DEBUG_INFO_BTF".to_owned(),
        });
    };
    let Some(function) = IDLE_FUNCTIONS.iter().find_map(|name| btf.function(name)) else {
        return Err(Refusal {
            reason: format!(
                "the kernel has none of {} to test fentry with",
                IDLE_FUNCTIONS.join(", ")
            ),
            remedy: "please report it".to_owned(),
        });
    };
    load(ProgramType::Fentry { function: function.id })
}

/// Whether the kernel has a PMU. aya's own test of kprobes does not check this.
fn require_pmu(name: &str, options: &str) -> Result<(), Refusal> {
    require_pmu_in(Path::new(EVENT_SOURCES), name, options)
}

fn require_pmu_in(folder: &Path, name: &str, options: &str) -> Result<(), Refusal> {
    let path: PathBuf = folder.join(name).join("type");
    if path.exists() {
        return Ok(());
    }
    Err(Refusal {
        reason: format!("no {name} PMU: {} is not there", path.display()),
        remedy: format!("use a kernel with {options}"),
    })
}

fn load(program: ProgramType) -> Result<(), Refusal> {
    empty_program::load_and_release(program)
        .map_err(|(stage, errno)| refusal(program, stage, errno, is_privileged()))
}

/// Whether this process has the needed capabilities, so that a refusal has another cause.
fn is_privileged() -> bool {
    let kernel = System::read().version();
    Privileges::read().is_ok_and(|privileges| privileges.missing(kernel).is_empty())
}

/// Explains the errno of a command (`bpf_prog_load`, kernel/bpf/syscall.c, and
/// `bpf_check_attach_target`, kernel/bpf/verifier.c, 6.12).
fn refusal(program: ProgramType, stage: Stage, errno: Errno, is_privileged: bool) -> Refusal {
    let kind = program.name();
    let command = match stage {
        Stage::Load => "load",
        Stage::Attach => "attach",
    };
    let reason =
        format!("the kernel refuses to {command} a program for {kind}: {}", describe(errno));
    let remedy = match errno {
        Errno::PERM | Errno::ACCESS if is_privileged => {
            "a security policy of this machine forbids it (the capabilities are there): ask its \
             administrator, or do without"
        }
        Errno::PERM | Errno::ACCESS => "run as root, or give CAP_BPF and CAP_PERFMON",
        Errno::NOSYS => "use a kernel with CONFIG_BPF_SYSCALL",
        // ENOTSUPP, which user space has no name for.
        errno if errno.raw_os_error() == 524 => {
            "use a kernel with BPF trampolines on this machine: CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS"
        }
        Errno::INVAL | Errno::NOTSUP | Errno::TOOBIG => match program {
            ProgramType::Fentry { .. } => {
                "use a kernel from 5.5 on with CONFIG_BPF_JIT and CONFIG_DEBUG_INFO_BTF"
            }
            _ => "use a kernel with CONFIG_BPF_EVENTS",
        },
        _ => "please report it",
    };
    Refusal { reason, remedy: remedy.to_owned() }
}

/// An errno's name, and its meaning for bpf(2).
fn describe(errno: Errno) -> String {
    let known = match errno {
        Errno::PERM => "EPERM, operation not permitted",
        Errno::ACCESS => "EACCES, permission denied",
        Errno::INVAL => "EINVAL, not known to this kernel",
        Errno::TOOBIG => "E2BIG, not known to this kernel",
        Errno::NOSYS => "ENOSYS, no bpf(2) in this kernel",
        Errno::NOTSUP => "EOPNOTSUPP, not supported",
        Errno::BUSY => "EBUSY, in use",
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
    fn a_missing_pmu_is_named() {
        let root = tempfile::tempdir().unwrap();
        let refusal = require_pmu_in(root.path(), "kprobe", "CONFIG_KPROBES").unwrap_err();
        assert!(refusal.reason.starts_with("no kprobe PMU: "), "{refusal}");
        assert_eq!(refusal.remedy, "use a kernel with CONFIG_KPROBES");
        std::fs::create_dir(root.path().join("kprobe")).unwrap();
        std::fs::write(root.path().join("kprobe/type"), "6\n").unwrap();
        require_pmu_in(root.path(), "kprobe", "CONFIG_KPROBES").unwrap();
    }

    #[test]
    fn a_refusal_has_a_reason_and_a_remedy() {
        let fentry = ProgramType::Fentry { function: 1 };
        let refused = refusal(fentry, Stage::Load, Errno::PERM, true);
        assert_eq!(
            refused.reason,
            "the kernel refuses to load a program for fentry: EPERM, operation not permitted"
        );
        assert!(refused.remedy.contains("security policy"));
        assert!(refusal(fentry, Stage::Load, Errno::PERM, false).remedy.contains("CAP_BPF"));
        let arm = refusal(fentry, Stage::Attach, Errno::from_raw_os_error(524), true);
        assert!(arm.reason.contains("attach") && arm.remedy.contains("trampolines"), "{arm}");
        assert!(refusal(fentry, Stage::Load, Errno::INVAL, true).remedy.contains("BTF"));
        assert!(
            refusal(ProgramType::Kprobe, Stage::Load, Errno::INVAL, true).remedy.contains("EVENTS")
        );
    }

    #[test]
    fn attach_methods_of_the_running_kernel_are_tested() {
        let bytes = btf::read(Path::new(btf::VMLINUX)).ok();
        let btf = bytes.as_deref().and_then(|bytes| Btf::parse(bytes).ok());
        let began = std::time::Instant::now();
        let methods = AttachMethods::probe(btf.as_ref());
        eprintln!("{methods:#?} in {:?}", began.elapsed());
        assert!(probe_fentry(None).unwrap_err().reason.contains("BTF"));
    }
}
