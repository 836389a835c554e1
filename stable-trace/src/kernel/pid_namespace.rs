//! The PID namespace of this process.

use std::{fs, os::unix::fs::MetadataExt as _};

/// Inode number of the initial PID namespace: `PROC_PID_INIT_INO`, `include/linux/proc_ns.h`, 5.10 to
/// 6.17; `PID_NS_INIT_INO`, include/uapi/linux/nsfs.h, later.
const INITIAL: u32 = 0xefff_fffc;

/// The inode number of this process's PID namespace; `None` for the initial one.
pub(crate) fn nested() -> Option<u32> {
    let inode = fs::metadata("/proc/self/ns/pid").ok()?.ino();
    u32::try_from(inode).ok().filter(|inode| *inode != INITIAL)
}

/// Whether `/proc` shows the pids of this process's namespace. After `unshare --pid` alone it still
/// shows those of the namespace above.
pub(crate) fn is_mounted() -> bool {
    fs::read_link("/proc/self")
        .is_ok_and(|link| link.to_str() == Some(std::process::id().to_string().as_str()))
}
