//! Access to tracefs.
//!
//! An observer must not change the system: where tracefs is not mounted, it is mounted in the private
//! mount namespace of one thread, and is gone with that thread.

use std::{
    io,
    path::{Path, PathBuf},
};

use rustix::{fs::statfs, io::Errno};

use super::{
    mountinfo,
    private_mount::{self, PrivateMountError},
};

/// The mount point that the kernel creates (from 4.1 on).
const TRACING: &str = "/sys/kernel/tracing";

/// The mount point below debugfs.
const DEBUG_TRACING: &str = "/sys/kernel/debug/tracing";

/// `TRACEFS_MAGIC` of include/uapi/linux/magic.h.
const TRACEFS_MAGIC: u64 = 0x7472_6163;

/// Why tracefs cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TracefsError {
    /// It is not mounted, and this process may not mount it.
    #[error(
        "tracefs is not mounted, and this process may not mount it (run as root, give \
         CAP_SYS_ADMIN, or once: mount -t tracefs tracefs {TRACING})"
    )]
    NotPermitted(#[source] io::Error),
    /// The kernel was built without it.
    #[error("this kernel has no tracefs (use a kernel with CONFIG_TRACING)")]
    Absent(#[source] io::Error),
    /// It is mounted, but cannot be read.
    #[error("cannot read {} (run as root, or give CAP_DAC_READ_SEARCH)", path.display())]
    Unreadable {
        /// The folder.
        path: PathBuf,
        /// The kernel's error.
        #[source]
        source: io::Error,
    },
    /// It is not mounted, and mounting it failed for another reason.
    #[error("cannot mount tracefs (mount it once: mount -t tracefs tracefs {TRACING})")]
    Mount(#[source] io::Error),
    /// The thread for the private mount did not start.
    #[error("cannot start a thread to mount tracefs in (see ulimit -u)")]
    Thread(#[source] io::Error),
    /// The closure panicked on that thread.
    #[error("a thread that read tracefs panicked; please report it")]
    Panicked,
}

/// Runs `work` with the root of a readable tracefs.
///
/// If tracefs is mounted at one of its two usual mount points, `work` runs on this thread. If not, it
/// runs on a thread of its own, for which tracefs is mounted at `/sys/kernel/tracing`; the path is
/// valid only inside `work` then. File descriptors opened in `work` stay valid after it. aya reads the
/// IDs of tracepoints from the same two mount points, so tracepoints must be attached inside. aya 0.14
/// looks for the mount points once in a process, so none may be attached outside before.
pub(crate) fn with_tracefs<R: Send>(
    work: impl FnOnce(&Path) -> R + Send,
) -> Result<R, TracefsError> {
    if let Some(root) = mount_point() {
        check_readable(&root)?;
        return Ok(work(&root));
    }
    private_mount::with("tracefs", Path::new(TRACING), |root| {
        check_readable(root)?;
        Ok(work(root))
    })
    .map_err(TracefsError::from)?
}

/// The mount point of tracefs in this thread's mount namespace, if it is one of the usual two.
pub(crate) fn mount_point() -> Option<PathBuf> {
    // The kernel mounts the second one on first access, so the list of mounts is read instead.
    let at_debug = || {
        let mounts = mountinfo::read().ok()?;
        mounts
            .into_iter()
            .any(|mount| mount.fs == "tracefs" && mount.point == DEBUG_TRACING)
            .then(|| PathBuf::from(DEBUG_TRACING))
    };
    is_tracefs(TRACING).then(|| PathBuf::from(TRACING)).or_else(at_debug)
}

fn is_tracefs(path: &str) -> bool {
    statfs(path).is_ok_and(|found| u64::try_from(found.f_type) == Ok(TRACEFS_MAGIC))
}

fn check_readable(root: &Path) -> Result<(), TracefsError> {
    let path = root.join("events");
    match std::fs::read_dir(&path) {
        Ok(_) => Ok(()),
        Err(source) => Err(TracefsError::Unreadable { path, source }),
    }
}

impl From<PrivateMountError> for TracefsError {
    fn from(error: PrivateMountError) -> Self {
        match error {
            PrivateMountError::Mount(errno) => match errno {
                Errno::PERM | Errno::ACCESS => Self::NotPermitted(errno.into()),
                Errno::NODEV | Errno::NOENT => Self::Absent(errno.into()),
                _ => Self::Mount(errno.into()),
            },
            PrivateMountError::Thread(error) => Self::Thread(error),
            PrivateMountError::Panicked => Self::Panicked,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::tracepoint::{Format, WAIT_FIELDS};

    #[test]
    fn other_namespaces_see_no_mount() {
        let mounts = || std::fs::read_to_string("/proc/self/mounts").unwrap();
        let before = mounts();
        let found = with_tracefs(|root| {
            assert_eq!(mounts(), before, "/proc/self shows the main thread");
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
    fn each_mount_error_has_a_remedy() {
        for (errno, remedy) in [
            (Errno::PERM, "CAP_SYS_ADMIN"),
            (Errno::NODEV, "CONFIG_TRACING"),
            (Errno::BUSY, "mount -t tracefs"),
        ] {
            let error = TracefsError::from(PrivateMountError::Mount(errno)).to_string();
            assert!(error.contains(remedy), "{error}");
        }
    }
}
