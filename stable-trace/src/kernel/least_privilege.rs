//! Threads that keep only the capabilities that their work needs.
//!
//! The kernel keeps capabilities, the bounding set and `no_new_privs` for each thread, and a thread
//! inherits those of the thread that starts it. So each thread gives up its own.

use rustix::{
    io::Errno,
    thread::{
        CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set,
        remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
    },
};

use super::{perf_events, tracefs};

/// What a thread does from now on. `docs/security.md` has the reason for each capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Reads the ring and the maps, attaches probes of later modules, looks processes up.
    Trace {
        /// Whether a child process runs, which may have another user.
        child: bool,
    },
    /// Answers clients of the metrics endpoint.
    Serve,
    /// Writes to files and pipes that are open.
    WriteLines,
    /// Writes files below folders that the user of the agent names.
    WriteFiles,
    /// Reads the tables of device-mapper devices.
    ReadTables,
}

/// What a thread could not give up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LeastPrivilegeError {
    #[error("cannot read the capabilities of a thread (a seccomp filter must permit capget)")]
    Read(#[source] Errno),
    #[error("a thread cannot give up capabilities (a seccomp filter must permit capset and prctl)")]
    GiveUp(#[source] Errno),
}

/// Loading programs and reading kernel memory in them.
const PROGRAMS: CapabilitySet = CapabilitySet::BPF.union(CapabilitySet::PERFMON);

impl Work {
    /// The capabilities that it needs, of those that the thread has.
    /// `attaching_needs_admin`: [`attaching_needs_admin`].
    fn needs(self, has: CapabilitySet, attaching_needs_admin: bool) -> CapabilitySet {
        let needed = match self {
            Self::Serve | Self::WriteLines => CapabilitySet::empty(),
            Self::WriteFiles => CapabilitySet::DAC_OVERRIDE,
            Self::ReadTables => CapabilitySet::SYS_ADMIN,
            Self::Trace { child } => {
                let mut needed = PROGRAMS
                    | CapabilitySet::SYSLOG
                    | CapabilitySet::DAC_READ_SEARCH
                    | CapabilitySet::SYS_PTRACE;
                needed.set(CapabilitySet::KILL, child);
                // Up to 5.7 it is the capability for programs.
                let admin = !has.contains(PROGRAMS) || attaching_needs_admin;
                needed.set(CapabilitySet::SYS_ADMIN, admin);
                needed
            }
        };
        needed & has
    }
}

/// Whether the probes of later modules attach only with `CAP_SYS_ADMIN`: to mount tracefs, or to open
/// performance events.
fn attaching_needs_admin() -> bool {
    tracefs::mount_point().is_none() || perf_events::need_sys_admin()
}

/// Whether this thread has `CAP_SYS_ADMIN`, and is going to give it up for tracing.
pub(crate) fn gives_up_admin(work: Work) -> Result<bool, LeastPrivilegeError> {
    let has = capabilities(None).map_err(LeastPrivilegeError::Read)?.effective;
    let kept = work.needs(has, attaching_needs_admin());
    Ok(has.contains(CapabilitySet::SYS_ADMIN) && !kept.contains(CapabilitySet::SYS_ADMIN))
}

/// Gives up, for the calling thread and the threads that it starts, every capability that the work
/// does not need, and the means to get one back: with `no_new_privs` and an empty bounding set no
/// program that it executes has more.
pub(crate) fn keep_only_for(work: Work) -> Result<(), LeastPrivilegeError> {
    let has = capabilities(None).map_err(LeastPrivilegeError::Read)?;
    let needed = work.needs(has.permitted, attaching_needs_admin());
    set_no_new_privs(true).map_err(LeastPrivilegeError::GiveUp)?;
    if has.effective.contains(CapabilitySet::SETPCAP) {
        empty_the_bounding_set().map_err(LeastPrivilegeError::GiveUp)?;
    }
    let kept = CapabilitySets {
        effective: has.effective & needed,
        permitted: needed,
        // The ambient set is a part of it (`cap_capset`, security/commoncap.c, 5.10 to 7.3).
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, kept).map_err(LeastPrivilegeError::GiveUp)
}

fn empty_the_bounding_set() -> Result<(), Errno> {
    for bit in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        match capability_is_in_bounding_set(capability) {
            Ok(true) => remove_capability_from_bounding_set(capability)?,
            Ok(false) => {}
            // The kernel has no more capabilities.
            Err(Errno::INVAL) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: Work = Work::Trace { child: false };

    #[test]
    fn only_what_tracing_needs_is_kept() {
        let all = CapabilitySet::from_bits_retain(u64::MAX);
        let usual = PROGRAMS
            | CapabilitySet::SYSLOG
            | CapabilitySet::DAC_READ_SEARCH
            | CapabilitySet::SYS_PTRACE;
        assert_eq!(TRACE.needs(all, false), usual);
        let of_command = Work::Trace { child: true };
        assert_eq!(of_command.needs(all, false), usual | CapabilitySet::KILL);
        assert_eq!(TRACE.needs(all, true), usual | CapabilitySet::SYS_ADMIN);
        assert_eq!(Work::Serve.needs(all, true), CapabilitySet::empty());
    }

    #[test]
    fn nothing_is_kept_that_the_thread_does_not_have() {
        assert_eq!(TRACE.needs(PROGRAMS, true), PROGRAMS);
        let old = CapabilitySet::SYS_ADMIN | CapabilitySet::SYS_BOOT;
        assert_eq!(TRACE.needs(old, false), CapabilitySet::SYS_ADMIN, "5.7 and before");
    }

    #[test]
    fn a_thread_gives_up_its_own_capabilities_only() {
        let before = capabilities(None).unwrap();
        let of_thread = std::thread::spawn(|| {
            keep_only_for(Work::Serve).unwrap();
            (capabilities(None).unwrap(), rustix::thread::no_new_privs().unwrap())
        });
        let (kept, no_new_privs) = of_thread.join().unwrap();
        assert_eq!(kept.permitted | kept.effective | kept.inheritable, CapabilitySet::empty());
        assert!(no_new_privs);
        assert_eq!(capabilities(None).unwrap(), before);
    }
}
