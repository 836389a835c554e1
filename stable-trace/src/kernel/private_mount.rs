//! A file system of the kernel's, mounted for one thread of ours and nobody else.

use std::{io, path::Path, thread};

use rustix::{
    io::Errno,
    mount::{MountFlags, MountPropagationFlags, mount, mount_change},
    thread::{UnshareFlags, unshare_unsafe},
};

/// Why there is no such mount.
#[derive(Debug, thiserror::Error)]
pub(super) enum PrivateMountError {
    /// The kernel refused the namespace or the mount.
    #[error("cannot mount it for ourselves: {0}; run as root, or give CAP_SYS_ADMIN")]
    Mount(#[source] Errno),
    /// No thread could be had.
    #[error("cannot start a thread: {0}; see ulimit -u")]
    Thread(#[source] io::Error),
    /// The closure panicked.
    #[error("what was run over a private mount panicked; please report it")]
    Panicked,
}

/// Runs `look` on a thread of its own, for which a file system of type `fs` is mounted at `point`.
/// The thread's mount namespace, and the mount with it, is gone when the thread is.
pub(super) fn with<R: Send>(
    fs: &str,
    point: &Path,
    look: impl FnOnce(&Path) -> R + Send,
) -> Result<R, PrivateMountError> {
    thread::scope(|scope| {
        thread::Builder::new()
            .name(fs.to_owned())
            .spawn_scoped(scope, || {
                mount_here(fs, point).map_err(PrivateMountError::Mount)?;
                Ok(look(point))
            })
            .map_err(PrivateMountError::Thread)?
            .join()
            .map_err(|_| PrivateMountError::Panicked)?
    })
}

/// A file of a pseudo file system that belongs at `point`: where nobody has mounted it, from a mount
/// of our own that nobody sees. Nothing if it cannot be read either way.
pub(super) fn read(fs: &str, point: &Path, file: &str) -> Option<String> {
    let read = |root: &Path| std::fs::read_to_string(root.join(file)).ok();
    read(point).or_else(|| with(fs, point, read).ok().flatten())
}

/// Of a list of choices the one that is marked, as the kernel writes such lists: `none [integrity]`,
/// `voluntary (full)`.
pub(super) fn marked(list: &str, marks: (char, char)) -> Option<&str> {
    list.split_whitespace().find_map(|word| word.strip_prefix(marks.0)?.strip_suffix(marks.1))
}

fn mount_here(fs: &str, point: &Path) -> Result<(), Errno> {
    // SAFETY: only the mount namespace (and with it the working directory and root) is unshared,
    // never the table of file descriptors, so no other thread's descriptors mean anything else.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
    // Where `/` is shared, as systemd makes it, the mount would else spread to everybody.
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount(fs, point, fs, flags, None)
}
