//! Where this process runs.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::UnshareFlags;

/// Where tracefs is.
pub const TRACING: &str = "/sys/kernel/tracing";

/// Why there is no tracefs; set once, before any test runs.
static TRACEFS: OnceLock<Option<String>> = OnceLock::new();

/// Whether this is a guest of the laboratory.
pub fn is_guest() -> bool {
    std::env::var_os("LAB_KERNEL").is_some()
}

/// Whether this process may do anything.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Major and minor version of the running kernel.
pub fn kernel_version() -> (u32, u32) {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Whether the kernel has the types of its modules, too: from 5.11 on.
pub fn modules_have_types() -> bool {
    Path::new("/sys/kernel/btf/scsi_mod").exists()
}

/// The function that every wait for writeback ends in: its name up to 5.15, and since.
pub fn wait_function() -> &'static str {
    // v5.16 split it (commit 490e016f229a, "mm/writeback: Add folio_wait_writeback()").
    if kernel_version() < (5, 16) { "wait_on_page_writeback" } else { "folio_wait_writeback" }
}

/// The tracepoint that fires when a task waits for writeback: its name up to 5.15, and since.
pub fn wait_event() -> String {
    format!("writeback/{}", wait_function())
}

/// Gives this process mounts of its own, outside of a guest, with tracefs and debugfs among them:
/// whatever the tests mount is gone when the process is, however it ends. Call it before the first
/// thread starts, for threads inherit the mounts.
pub fn settle() {
    let gap = if !is_root() {
        Some("tracefs needs root".to_owned())
    } else if is_guest() {
        None
    } else {
        own_mounts().err().map(|error| format!("tracefs cannot be mounted: {error}"))
    };
    // Nobody else sets it.
    let _ = TRACEFS.set(gap);
}

/// Why there is no tracefs here, if there is none.
pub fn tracefs_gap() -> Option<String> {
    TRACEFS.get().cloned().unwrap_or_else(|| Some("the bed has not settled".to_owned()))
}

fn own_mounts() -> rustix::io::Result<()> {
    // SAFETY: only file descriptor tables are a matter of memory safety here, and a new mount
    // namespace leaves them as they are.
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
