//! Where tracefs is, and a private one where it is nowhere.
//!
//! A tool that looks must not change what it looks at: where nobody has mounted tracefs, it is
//! mounted in a mount namespace that only one thread of ours lives in, and is gone with it.

use std::{
    io,
    path::{Path, PathBuf},
};

use rustix::{fs::statfs, io::Errno};

use super::private_mount::{self, PrivateMountError};

/// Where the kernel makes a place for it (from 4.1 on).
const TRACING: &str = "/sys/kernel/tracing";

/// Where it shows up below a mounted debugfs.
const DEBUG_TRACING: &str = "/sys/kernel/debug/tracing";

/// `TRACEFS_MAGIC` of include/uapi/linux/magic.h.
const TRACEFS_MAGIC: u64 = 0x7472_6163;

/// Why there is no tracefs to read.
#[derive(Debug, thiserror::Error)]
pub enum TracefsError {
    /// It is not mounted, and we may not mount it.
    #[error(
        "tracefs is not mounted and we may not mount it ({0}); run as root, give CAP_SYS_ADMIN, \
         or once: mount -t tracefs tracefs {TRACING}"
    )]
    NotPermitted(#[source] io::Error),
    /// The kernel was built without it.
    #[error(
        "this kernel has no tracefs ({0}); it needs CONFIG_TRACING, and tracepoints cannot be \
         read without it"
    )]
    Absent(#[source] io::Error),
    /// It is mounted, but we cannot look into it.
    #[error("cannot read {}: {source}; run as root, or give CAP_DAC_READ_SEARCH", path.display())]
    Unreadable {
        /// The folder.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// It is not mounted, and mounting it failed for another reason.
    #[error("cannot mount tracefs: {0}; mount it once: mount -t tracefs tracefs {TRACING}")]
    Mount(#[source] io::Error),
    /// No thread could be had for the private mount.
    #[error("cannot start a thread to mount tracefs in: {0}; see ulimit -u")]
    Thread(#[source] io::Error),
    /// The closure panicked on that thread.
    #[error("what was run over tracefs panicked; please report it")]
    Panicked,
}

/// Runs `look` with the root of a tracefs that can be read.
///
/// If it is mounted at one of its two usual places, `look` runs on this thread. If not, it runs on
/// a thread of its own for which it is mounted at `/sys/kernel/tracing`; the path means nothing
/// outside `look` then. File descriptors opened in `look` stay good after it. aya's tracepoints
/// look for their id at the same two places, so they attach inside; aya 0.14 looks for the places
/// once in a process, so none may be attached outside before.
///
/// # Errors
/// [`TracefsError`] if there is no tracefs, or it may be neither mounted nor read.
pub fn with_tracefs<R: Send>(look: impl FnOnce(&Path) -> R + Send) -> Result<R, TracefsError> {
    if let Some(root) = mounted() {
        readable(&root)?;
        return Ok(look(&root));
    }
    private_mount::with("tracefs", Path::new(TRACING), |root| {
        readable(root)?;
        Ok(look(root))
    })
    .map_err(refused)?
}

/// Where tracefs is mounted in this thread's mount namespace, if at one of the usual places.
#[must_use]
pub fn mounted() -> Option<PathBuf> {
    // The kernel mounts the second one by itself as soon as anybody looks at it, so its being
    // mounted is asked of the list of mounts.
    let at_debug = || {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
        super::mounts::parse(&mounts)
            .into_iter()
            .any(|mount| mount.fs == "tracefs" && mount.point == DEBUG_TRACING)
            .then(|| PathBuf::from(DEBUG_TRACING))
    };
    is_tracefs(TRACING).then(|| PathBuf::from(TRACING)).or_else(at_debug)
}

fn is_tracefs(path: &str) -> bool {
    statfs(path).is_ok_and(|found| u64::try_from(found.f_type) == Ok(TRACEFS_MAGIC))
}

fn readable(root: &Path) -> Result<(), TracefsError> {
    let path = root.join("events");
    match std::fs::read_dir(&path) {
        Ok(_) => Ok(()),
        Err(source) => Err(TracefsError::Unreadable { path, source }),
    }
}

fn refused(error: PrivateMountError) -> TracefsError {
    match error {
        PrivateMountError::Mount(errno) => match errno {
            Errno::PERM | Errno::ACCESS => TracefsError::NotPermitted(errno.into()),
            Errno::NODEV | Errno::NOENT => TracefsError::Absent(errno.into()),
            _ => TracefsError::Mount(errno.into()),
        },
        PrivateMountError::Thread(error) => TracefsError::Thread(error),
        PrivateMountError::Panicked => TracefsError::Panicked,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::tracepoint::{Format, WAIT_FIELDS};

    #[test]
    fn nothing_is_mounted_for_anybody_else() {
        let mounts = || std::fs::read_to_string("/proc/self/mounts").unwrap();
        let before = mounts();
        let found = with_tracefs(|root| {
            assert_eq!(mounts(), before, "/proc/self is the process's first thread");
            Format::read_wait(root)
        });
        assert_eq!(mounts(), before);
        match found {
            Ok(format) => {
                let format = format.unwrap();
                for field in WAIT_FIELDS {
                    format.require(field).unwrap();
                }
            }
            Err(error) => eprintln!("skipped: {error}"),
        }
    }

    #[test]
    fn each_refusal_says_what_to_do() {
        for (errno, says) in [
            (Errno::PERM, "CAP_SYS_ADMIN"),
            (Errno::NODEV, "CONFIG_TRACING"),
            (Errno::BUSY, "mount -t tracefs"),
        ] {
            let error = refused(PrivateMountError::Mount(errno)).to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
