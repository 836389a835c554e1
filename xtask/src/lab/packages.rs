//! Debian packages that the laboratory needs on the host.

use anyhow::Result;

use crate::setup::debian;

/// Packages with their proof of presence: see [`debian::ensure`].
const PACKAGES: [(&str, &str); 15] = [
    ("qemu-system-x86", "qemu-system-x86_64"),
    ("busybox-static", "busybox"),
    ("kmod", "depmod"),
    ("xz-utils", "xz"),
    ("zstd", "zstd"),
    ("util-linux", "losetup"),
    ("e2fsprogs", "mkfs.ext4"),
    ("xfsprogs", "mkfs.xfs"),
    ("btrfs-progs", "mkfs.btrfs"),
    ("dosfstools", "mkfs.vfat"),
    ("bpftrace", "bpftrace"),
    ("bpftool", "bpftool"),
    ("sg3-utils", "sg_raw"),
    ("dmsetup", "dmsetup"),
    ("cryptsetup-bin", "integritysetup"),
];

pub(crate) fn ensure() -> Result<()> {
    debian::ensure(&PACKAGES)
}
