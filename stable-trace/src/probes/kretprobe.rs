//! Kretprobes with enough instances.
//!
//! Each call that sleeps in a probed function holds an instance, and the return of a call without an
//! instance is missed. A kretprobe that is a performance event has `max(10, 2 * CPUs)` instances, or
//! as many as CPUs on 5.10 (`register_kretprobe`, kernel/kprobes.c). A kretprobe defined in tracefs
//! states the number, up to `KRETPROBE_MAXACTIVE_MAX`, 4,096 (`kernel/trace/trace_kprobe.c`), and
//! counts what it misses. So these are defined in tracefs.

use std::{
    error::Error,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
    path::{Path, PathBuf},
};

use stable_trace_analysis::error_chain::ErrorChain;

use crate::kernel::tracefs::with_tracefs;

/// The most tasks in the function at one time.
const INSTANCES: u32 = 4096;

/// The group of our events. Each event has the process ID in its name, so that a later run recognizes
/// events of a killed process.
const GROUP: &str = "stable_trace";

/// Why a kretprobe cannot be attached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KretprobeError {
    /// A file of tracefs cannot be read or written.
    #[error("cannot use {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The kernel's error.
        #[source]
        source: io::Error,
    },
    /// The event's ID is malformed.
    #[error("{} does not contain a number; please report it", .0.display())]
    Number(PathBuf),
    /// The event cannot be opened, or does not accept the program.
    #[error("perf_event_open failed")]
    Event(#[source] io::Error),
}

/// A kretprobe with its program. Drop removes it from the kernel.
#[derive(Debug)]
pub(crate) struct Kretprobe {
    function: &'static str,
    name: String,
    event: Option<OwnedFd>,
}

impl Kretprobe {
    /// Defines a kretprobe on a symbol in the tracefs at `tracefs`, and attaches a loaded program of
    /// type kprobe to it. On an error nothing remains. `function` is the name in the source.
    pub(crate) fn attach(
        tracefs: &Path,
        function: &'static str,
        symbol: &str,
        program: BorrowedFd<'_>,
    ) -> Result<Self, KretprobeError> {
        let name = event_name(symbol, std::process::id());
        write_definition(tracefs, &format!("r{INSTANCES}:{GROUP}/{name} {symbol}"))?;
        // From here on, drop removes the definition.
        let mut probe = Self { function, name, event: None };
        let path = tracefs.join(format!("events/{GROUP}/{}/id", probe.name));
        let id = fs::read_to_string(&path)
            .map_err(|source| KretprobeError::File { path: path.clone(), source })?;
        let id = id.trim().parse().map_err(|_| KretprobeError::Number(path))?;
        let event = open(id).map_err(KretprobeError::Event)?;
        set_program(&event, program).map_err(KretprobeError::Event)?;
        probe.event = Some(event);
        Ok(probe)
    }

    /// The probed function's name in the source.
    pub(crate) const fn function(&self) -> &'static str {
        self.function
    }

    /// The missed calls: the last column of `kprobe_profile` (`probes_profile_seq_show`,
    /// `kernel/trace/trace_kprobe.c`). Up to 6.1 the kernel counts there only a kprobe that is hit
    /// within a kprobe.
    pub(crate) fn missed(&self) -> Option<u64> {
        with_tracefs(|tracefs| {
            let profile = fs::read_to_string(tracefs.join("kprobe_profile")).ok()?;
            missed(&profile, &self.name)
        })
        .ok()?
    }
}

impl Drop for Kretprobe {
    fn drop(&mut self) {
        // The definition cannot be removed while the event is open.
        self.event = None;
        let removed =
            with_tracefs(|tracefs| write_definition(tracefs, &format!("-:{GROUP}/{}", self.name)));
        let removed: Result<_, Box<dyn Error>> = match removed {
            Ok(removed) => removed.map_err(Into::into),
            Err(error) => Err(error.into()),
        };
        if let Err(error) = removed {
            log::warn!("cannot remove a kretprobe: {}", ErrorChain(error.as_ref()));
        }
    }
}

/// Removes the definitions of killed processes. They run no program, but are listed.
pub(crate) fn remove_abandoned(tracefs: &Path) {
    let Ok(definitions) = fs::read_to_string(tracefs.join("kprobe_events")) else {
        return;
    };
    for name in own_events(&definitions) {
        let process = name.rsplit('_').next().unwrap_or_default();
        if !Path::new("/proc").join(process).exists()
            && let Err(error) = write_definition(tracefs, &format!("-:{GROUP}/{name}"))
        {
            log::debug!(
                "cannot remove the kretprobe {name} of an earlier run: {}",
                ErrorChain(&error)
            );
        }
    }
}

/// The names of our events among all definitions.
fn own_events(definitions: &str) -> impl Iterator<Item = &str> {
    definitions.lines().filter_map(|line| {
        let (_, event) = line.split_whitespace().next()?.split_once(':')?;
        event.strip_prefix(GROUP)?.strip_prefix('/')
    })
}

/// The name of an event. It must not contain dots, as symbols may.
fn event_name(symbol: &str, process: u32) -> String {
    format!("{}_{process}", symbol.replace('.', "_"))
}

fn missed(profile: &str, name: &str) -> Option<u64> {
    profile.lines().find_map(|line| {
        let mut columns = line.split_whitespace();
        let event = columns.next()?;
        // With or without its group, depending on the kernel.
        (event.rsplit('/').next() == Some(name)).then(|| columns.nth(1)?.parse().ok()).flatten()
    })
}

/// Adds or removes a definition. The file is opened for appending, or else all definitions would be
/// removed.
fn write_definition(tracefs: &Path, definition: &str) -> Result<(), KretprobeError> {
    let path = tracefs.join("kprobe_events");
    OpenOptions::new()
        .append(true)
        .open(&path)
        .and_then(|mut file| file.write_all(definition.as_bytes()))
        .map_err(|source| KretprobeError::File { path, source })
}

/// `PERF_TYPE_TRACEPOINT`, `include/uapi/linux/perf_event.h`.
const PERF_TYPE_TRACEPOINT: u32 = 2;
/// `PERF_FLAG_FD_CLOEXEC`, there.
const PERF_FLAG_FD_CLOEXEC: libc::c_ulong = 8;
/// `PERF_EVENT_IOC_SET_BPF`: `_IOW('$', 8, __u32)`, there.
const PERF_EVENT_IOC_SET_BPF: libc::Ioctl = 0x4004_2408;
/// `PERF_EVENT_IOC_ENABLE`: `_IO('$', 0)`, there.
const PERF_EVENT_IOC_ENABLE: libc::Ioctl = 0x2400;

/// The beginning of `struct perf_event_attr`. The rest is zero, which requests nothing.
#[repr(C)]
#[derive(Default)]
struct PerfEventAttr {
    kind: u32,
    size: u32,
    config: u64,
    rest: [u64; 6],
}

/// `PERF_ATTR_SIZE_VER0`: the first published size, which every kernel accepts.
const PERF_ATTR_SIZE_VER0: usize = 64;
const _: () = assert!(size_of::<PerfEventAttr>() == PERF_ATTR_SIZE_VER0);

/// Opens a trace event by its ID. A program attached to it runs on every CPU, whichever one
/// the event is opened on.
fn open(id: u64) -> io::Result<OwnedFd> {
    let attr = PerfEventAttr {
        kind: PERF_TYPE_TRACEPOINT,
        size: 64,
        config: id,
        ..PerfEventAttr::default()
    };
    // SAFETY: the structure outlives the call, and has the size that it states.
    let fd = unsafe {
        libc::syscall(libc::SYS_perf_event_open, &raw const attr, -1, 0, -1, PERF_FLAG_FD_CLOEXEC)
    };
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just opened this descriptor, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Makes an event run a program.
fn set_program(event: &OwnedFd, program: BorrowedFd<'_>) -> io::Result<()> {
    for (request, argument) in
        [(PERF_EVENT_IOC_SET_BPF, program.as_raw_fd()), (PERF_EVENT_IOC_ENABLE, 0)]
    {
        // SAFETY: both requests take a number, not a pointer.
        let result = unsafe { libc::ioctl(event.as_raw_fd(), request, argument) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_events_are_found_among_others() {
        let definitions = "r4096:stable_trace/folio_wait_writeback_77 folio_wait_writeback\n\
             p:kprobes/other vfs_read\nr:stable_trace/do_page_mkwrite_isra_0_78 do_page_mkwrite\n";
        let names: Vec<_> = own_events(definitions).collect();
        assert_eq!(names, ["folio_wait_writeback_77", "do_page_mkwrite_isra_0_78"]);
        assert_eq!(event_name("do_page_mkwrite.isra.0", 78), names[1]);
    }

    #[test]
    fn misses_are_in_the_last_column() {
        let profile = "  folio_wait_writeback_77        9612         3\n  other    1   2\n";
        assert_eq!(missed(profile, "folio_wait_writeback_77"), Some(3));
        assert_eq!(missed(profile, "absent"), None);
    }
}
