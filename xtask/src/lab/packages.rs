//! What the laboratory needs of this machine.

use std::path::Path;

use anyhow::{Result, bail};

/// Debian packages, each with what proves that it is there: a program, or a file's path.
pub const PACKAGES: [(&str, &str); 12] = [
    ("qemu-system-x86", "qemu-system-x86_64"),
    ("busybox-static", "busybox"),
    ("kmod", "depmod"),
    ("xz-utils", "xz"),
    ("zstd", "zstd"),
    ("util-linux", "losetup"),
    ("e2fsprogs", "mkfs.ext4"),
    ("xfsprogs", "mkfs.xfs"),
    ("btrfs-progs", "mkfs.btrfs"),
    ("bpftrace", "bpftrace"),
    ("bpftool", "bpftool"),
    ("sg3-utils", "sg_raw"),
];

/// Makes sure of them.
///
/// # Errors
/// If one is missing.
pub fn ensure() -> Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian keeps these off an ordinary user's PATH.
    let folders: Vec<_> = std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(|folder| Path::new(folder).to_owned()))
        .collect();
    let missing: Vec<_> = PACKAGES
        .iter()
        .filter(|(_, proof)| !folders.iter().any(|folder| folder.join(proof).exists()))
        .map(|(package, _)| *package)
        .collect();
    if !missing.is_empty() {
        bail!("the laboratory needs Debian packages that are missing: {}", missing.join(" "));
    }
    Ok(())
}
