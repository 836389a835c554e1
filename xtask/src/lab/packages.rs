//! What the laboratory needs of this machine.

use anyhow::Result;

use crate::setup::debian;

/// Debian packages, each with what proves that it is there.
const PACKAGES: [(&str, &str); 14] = [
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
    ("dmsetup", "dmsetup"),
    ("cryptsetup-bin", "integritysetup"),
];

/// Makes sure of them.
///
/// # Errors
/// If one is missing and cannot be installed.
pub fn ensure() -> Result<()> {
    debian::ensure(&PACKAGES)
}
