//! Kretprobes with enough instances.
//!
//! Each call that sleeps in a probed function holds an instance, and a call that finds none is
//! missed. A kretprobe made as a performance event has `max(10, 2 * CPUs)` of them, or as many as
//! there are CPUs on 5.10 (`register_kretprobe`, kernel/kprobes.c); one made through tracefs has as
//! many as it asks for, up to `KRETPROBE_MAXACTIVE_MAX`, 4,096 (`kernel/trace/trace_kprobe.c`). So
//! these are made there, and count what they miss.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
    path::{Path, PathBuf},
};

use crate::kernel::tracefs::with_tracefs;

/// Instances: tasks that can be inside at one time.
const INSTANCES: u32 = 4096;

/// The group that our events are in; each has the process's number in its name, so that a later run
/// can tell those of a process that was killed.
const GROUP: &str = "stable_trace";

/// Why there is no kretprobe.
#[derive(Debug, thiserror::Error)]
pub enum KretprobeError {
    /// tracefs refused it.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Its event has no number.
    #[error("{} does not hold a number", .0.display())]
    Number(PathBuf),
    /// The event could not be opened, or did not take the program.
    #[error("perf_event_open: {0}")]
    Event(#[source] io::Error),
}

/// A kretprobe with its program. Dropped, it is gone from the kernel.
#[derive(Debug)]
pub struct Kretprobe {
    name: String,
    event: Option<OwnedFd>,
}

impl Kretprobe {
    /// Makes a kretprobe on a symbol and attaches a loaded program of type kprobe to it. `tracefs`
    /// is its root.
    ///
    /// # Errors
    /// [`KretprobeError`], with nothing left behind.
    pub fn attach(
        tracefs: &Path,
        symbol: &str,
        program: BorrowedFd<'_>,
    ) -> Result<Self, KretprobeError> {
        let name = name(symbol, std::process::id());
        define(tracefs, &format!("r{INSTANCES}:{GROUP}/{name} {symbol}"))?;
        // From here on it is removed if something goes wrong.
        let mut probe = Self { name, event: None };
        let path = tracefs.join(format!("events/{GROUP}/{}/id", probe.name));
        let id = fs::read_to_string(&path)
            .map_err(|source| KretprobeError::File { path: path.clone(), source })?;
        let id = id.trim().parse().map_err(|_| KretprobeError::Number(path))?;
        let event = open(id).map_err(KretprobeError::Event)?;
        run_program(&event, program).map_err(KretprobeError::Event)?;
        probe.event = Some(event);
        Ok(probe)
    }

    /// Calls that found no instance, as the kernel counts them: the last column of
    /// `kprobe_profile` (`probes_profile_seq_show`, `kernel/trace/trace_kprobe.c`). Up to 6.1 the
    /// kernel counts there only what hit a kprobe within a kprobe.
    #[must_use]
    pub fn missed(&self) -> Option<u64> {
        with_tracefs(|tracefs| {
            let profile = fs::read_to_string(tracefs.join("kprobe_profile")).ok()?;
            missed(&profile, &self.name)
        })
        .ok()?
    }
}

impl Drop for Kretprobe {
    fn drop(&mut self) {
        // It cannot be removed while its event is open.
        self.event = None;
        let removed = with_tracefs(|tracefs| define(tracefs, &format!("-:{GROUP}/{}", self.name)));
        match removed {
            Ok(Ok(())) => {}
            Ok(Err(error)) => log::warn!("a kretprobe's definition stays behind: {error}"),
            Err(error) => log::warn!("a kretprobe's definition stays behind: {error}"),
        }
    }
}

/// Removes the definitions that killed processes left: they run nothing any more, but they show.
pub fn clear_abandoned(tracefs: &Path) {
    let Ok(definitions) = fs::read_to_string(tracefs.join("kprobe_events")) else {
        return;
    };
    for name in ours(&definitions) {
        let process = name.rsplit('_').next().unwrap_or_default();
        if !Path::new("/proc").join(process).exists()
            && let Err(error) = define(tracefs, &format!("-:{GROUP}/{name}"))
        {
            log::debug!("{name} of a process that is gone cannot be removed: {error}");
        }
    }
}

/// Names of our events among all definitions.
fn ours(definitions: &str) -> impl Iterator<Item = &str> {
    definitions.lines().filter_map(|line| {
        let (_, event) = line.split_whitespace().next()?.split_once(':')?;
        event.strip_prefix(GROUP)?.strip_prefix('/')
    })
}

/// The name of an event: a symbol may have dots, an event may not.
fn name(symbol: &str, process: u32) -> String {
    format!("{}_{process}", symbol.replace('.', "_"))
}

fn missed(profile: &str, name: &str) -> Option<u64> {
    profile.lines().find_map(|line| {
        let mut columns = line.split_whitespace();
        let event = columns.next()?;
        // With or without its group, by kernel.
        (event.rsplit('/').next() == Some(name)).then(|| columns.nth(1)?.parse().ok()).flatten()
    })
}

/// Adds or removes a definition. Opened for appending: without it all others would go.
fn define(tracefs: &Path, definition: &str) -> Result<(), KretprobeError> {
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

/// The beginning of `struct perf_event_attr`; what follows is zero, which the kernel takes as not
/// asked for.
#[repr(C)]
#[derive(Default)]
struct PerfEventAttr {
    kind: u32,
    size: u32,
    config: u64,
    rest: [u64; 6],
}

/// `PERF_ATTR_SIZE_VER0`: the first published size, which every kernel takes.
const PERF_ATTR_SIZE_VER0: usize = 64;
const _: () = assert!(size_of::<PerfEventAttr>() == PERF_ATTR_SIZE_VER0);

/// Opens a trace event by its number. A program attached to it runs on every CPU, whichever one
/// the event is opened on.
fn open(id: u64) -> io::Result<OwnedFd> {
    let attr = PerfEventAttr {
        kind: PERF_TYPE_TRACEPOINT,
        size: 64,
        config: id,
        ..PerfEventAttr::default()
    };
    // SAFETY: the structure lives through the call and has the size that it states.
    let fd = unsafe {
        libc::syscall(libc::SYS_perf_event_open, &raw const attr, -1, 0, -1, PERF_FLAG_FD_CLOEXEC)
    };
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Has an event run a program.
fn run_program(event: &OwnedFd, program: BorrowedFd<'_>) -> io::Result<()> {
    for (request, argument) in
        [(PERF_EVENT_IOC_SET_BPF, program.as_raw_fd()), (PERF_EVENT_IOC_ENABLE, 0)]
    {
        // SAFETY: both requests take a number, no pointer.
        let done = unsafe { libc::ioctl(event.as_raw_fd(), request, argument) };
        if done < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_events_are_found_among_others() {
        let definitions = "r4096:stable_trace/folio_wait_writeback_77 folio_wait_writeback\n\
             p:kprobes/other vfs_read\nr:stable_trace/do_page_mkwrite_isra_0_78 do_page_mkwrite\n";
        let names: Vec<_> = ours(definitions).collect();
        assert_eq!(names, ["folio_wait_writeback_77", "do_page_mkwrite_isra_0_78"]);
        assert_eq!(name("do_page_mkwrite.isra.0", 78), names[1]);
    }

    #[test]
    fn misses_are_the_second_number() {
        let profile = "  folio_wait_writeback_77        9612         3\n  other    1   2\n";
        assert_eq!(missed(profile, "folio_wait_writeback_77"), Some(3));
        assert_eq!(missed(profile, "absent"), None);
    }
}
