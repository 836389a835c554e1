//! The machine that the tests run on.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::UnshareFlags;

pub(crate) const TRACING: &str = "/sys/kernel/tracing";

/// Why there is no tracefs. Set once, before any test runs.
static TRACEFS_UNAVAILABLE: OnceLock<Option<String>> = OnceLock::new();

/// Whether this is a guest of the laboratory.
pub(crate) fn is_guest() -> bool {
    std::env::var_os("LAB_KERNEL").is_some()
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Major and minor version of the running kernel.
pub(crate) fn kernel_version() -> (u32, u32) {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Whether the kernel preempts programs at trampolines and raw tracepoints, and skips runs of others meanwhile: 7.x, as
/// the laboratory has it.
pub(crate) fn preempts_programs() -> bool {
    kernel_version() >= (7, 0)
}

/// Whether the kernel has BTF of its modules: from 5.11 on.
pub(crate) fn modules_have_btf() -> bool {
    Path::new("/sys/kernel/btf/scsi_mod").exists()
}

/// Whether an integrity profile alone keeps pages stable, whatever `queue/stable_writes` is: from
/// 6.11 on (`bdev_stable_writes`, include/linux/blkdev.h).
pub(crate) fn integrity_keeps_pages_stable() -> bool {
    kernel_version() >= (6, 11)
}

/// The function that every writeback wait ends in.
pub(crate) fn wait_function() -> &'static str {
    // v5.16 split it (commit 490e016f229a, "mm/writeback: Add folio_wait_writeback()").
    if kernel_version() < (5, 16) { "wait_on_page_writeback" } else { "folio_wait_writeback" }
}

/// The tracepoint that fires when a task waits for writeback, as `SYSTEM/NAME`.
pub(crate) fn wait_event() -> String {
    format!("writeback/{}", wait_function())
}

/// Outside of a guest, moves this process into its own mount namespace, with tracefs and debugfs
/// mounted: the kernel removes every mount of the tests when the process ends. Call it before the
/// first thread starts, because threads inherit the namespace.
pub(crate) fn set_up_mounts() {
    let unavailable = if !is_root() {
        Some("tracefs needs root".to_owned())
    } else if is_guest() {
        None
    } else {
        own_mounts().err().map(|error| format!("cannot mount tracefs: {error}"))
    };
    // This is the only place that sets it.
    let _ = TRACEFS_UNAVAILABLE.set(unavailable);
}

/// Why there is no tracefs, if there is none.
pub(crate) fn tracefs_unavailable() -> Option<String> {
    let not_set_up = || Some("the harness has not set up its mounts".to_owned());
    TRACEFS_UNAVAILABLE.get().cloned().unwrap_or_else(not_set_up)
}

fn own_mounts() -> rustix::io::Result<()> {
    // SAFETY: only a change of the file descriptor table can break memory safety, and a new mount
    // namespace does not change it.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS)? };
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    for (kind, folder) in [("tracefs", TRACING), ("debugfs", "/sys/kernel/debug")] {
        let empty = fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none());
        if Path::new(folder).exists() && empty {
            mount(kind, folder, kind, MountFlags::empty(), None)?;
        }
    }
    Ok(())
}
