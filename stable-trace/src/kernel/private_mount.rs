//! A kernel file system that is mounted for one thread of this process only.

use std::{fs, io, path::Path, thread};

use rustix::{
    io::Errno,
    mount::{MountFlags, MountPropagationFlags, mount, mount_change},
    thread::{UnshareFlags, unshare_unsafe},
};

/// Why there is no private mount.
#[derive(Debug, thiserror::Error)]
pub(super) enum PrivateMountError {
    /// The kernel refused the namespace or the mount.
    #[error(
        "cannot mount a file system in a private namespace (run as root, or give CAP_SYS_ADMIN)"
    )]
    Mount(#[source] Errno),
    /// The thread did not start.
    #[error("cannot start a thread (see ulimit -u)")]
    Thread(#[source] io::Error),
    /// The closure panicked.
    #[error("a thread with a private mount panicked; please report it")]
    Panicked,
}

/// Runs `work` on a new thread, with a file system of type `fs` mounted at `point`. Mount namespace
/// and mount end with the thread.
pub(super) fn with<R: Send>(
    fs: &str,
    point: &Path,
    work: impl FnOnce(&Path) -> R + Send,
) -> Result<R, PrivateMountError> {
    thread::scope(|scope| {
        thread::Builder::new()
            .name(fs.to_owned())
            .spawn_scoped(scope, || {
                mount_here(fs, point).map_err(PrivateMountError::Mount)?;
                Ok(work(point))
            })
            .map_err(PrivateMountError::Thread)?
            .join()
            .map_err(|_| PrivateMountError::Panicked)?
    })
}

/// Reads a file of a pseudo file system whose usual mount point is `point`. If it is not mounted
/// there, a private mount serves. `None` if the file cannot be read either way.
pub(super) fn read(fs: &str, point: &Path, file: &str) -> Option<String> {
    let read = |root: &Path| fs::read_to_string(root.join(file)).ok();
    read(point).or_else(|| with(fs, point, read).ok().flatten())
}

/// The word in brackets in a list of choices: `none [integrity]`, `voluntary (full)`.
pub(super) fn bracketed(list: &str, brackets: (char, char)) -> Option<&str> {
    let mut words = list.split_whitespace();
    words.find_map(|word| word.strip_prefix(brackets.0)?.strip_suffix(brackets.1))
}

/// Gives the calling thread a mount namespace of its own, with this propagation for all mounts.
pub(crate) fn unshare_mounts(propagation: MountPropagationFlags) -> Result<(), Errno> {
    // SAFETY: only the mount namespace (and with it the working directory and root) is unshared,
    // never the table of file descriptors, so other threads' descriptors keep their meaning.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
    mount_change("/", propagation | MountPropagationFlags::REC)
}

fn mount_here(fs: &str, point: &Path) -> Result<(), Errno> {
    // Where `/` is shared, as systemd makes it, the mount would propagate to other namespaces.
    unshare_mounts(MountPropagationFlags::PRIVATE)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount(fs, point, fs, flags, None)
}
