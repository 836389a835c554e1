//! Builds QEMU's command line.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;
use std::process::Command;

use super::accel::Engine;
use super::kernel::Kernel;

pub(crate) const PROGRAM: &str = "qemu-system-x86_64";

/// What differs between guests.
#[derive(Debug)]
pub(crate) struct Hardware<'a> {
    pub(crate) engine: Engine,
    pub(crate) kernel: &'a Kernel,
    pub(crate) initrd: &'a Path,
    /// The folder that the guest mounts as `/lab`, writable.
    pub(crate) share: &'a Path,
    /// The file of the console log.
    pub(crate) console: &'a Path,
    /// The image file of the NVMe disk.
    pub(crate) nvme: &'a Path,
    /// The image file of the NVMe disk with two paths.
    pub(crate) multipath: &'a Path,
    /// The socket of QEMU's monitor; QEMU must inherit it.
    pub(crate) monitor: &'a OwnedFd,
    /// Whether QEMU's stdin and stdout are a terminal.
    pub(crate) terminal: bool,
}

/// Data blocks of the NVMe disk, 390 MiB: xfs needs at least 300 MiB. The image is sparse.
const NVME_BLOCKS: u64 = 100_000;
const NVME_BLOCK: u64 = 4096;
/// Bytes of metadata per block for its protection information. QEMU stores all metadata after the data,
/// so the image is larger than the disk.
const NVME_METADATA: u64 = 8;

/// The size of the image of the NVMe disk, in bytes.
pub(crate) const NVME_IMAGE: u64 = NVME_BLOCKS * (NVME_BLOCK + NVME_METADATA);

/// The same of the disk with two paths, which has 16 MiB.
pub(crate) const NVME_PATHS_IMAGE: u64 = 4_096 * (NVME_BLOCK + NVME_METADATA);

/// Devices of a namespace with PI type 1 at the start of separate metadata, the only format that Linux maps
/// to an integrity profile. QEMU 7.2 requires `physical_block_size`.
const NVME_NAMESPACE: &str =
    "nvme-ns,ms=8,mset=0,pi=1,pil=0,logical_block_size=4096,physical_block_size=4096";

/// Each of `ports` becomes a virtio serial port of that name, connected to the socket. QEMU must inherit
/// the socket.
pub(crate) fn command(hardware: &Hardware<'_>, ports: &[(&str, &OwnedFd)]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(hardware.engine.arguments());
    command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
    command.args(["-smp", "2", "-m", "3G"]);
    command.arg("-kernel").arg(&hardware.kernel.image);
    command.arg("-initrd").arg(hardware.initrd);
    // A panic or an oops ends the guest. The log buffer must have room for the messages about thousands
    // of disk errors.
    command.args([
        "-append",
        "console=ttyS0 quiet panic=-1 oops=panic mitigations=off log_buf_len=16M sysrq_always_enabled",
    ]);
    command.arg("-chardev").arg(option("file,id=console", &[("path", hardware.console)]));
    command.args(["-serial", "chardev:console"]);
    let monitor = hardware.monitor.as_raw_fd();
    command.arg("-chardev").arg(format!("socket,id=monitor,fd={monitor}"));
    command.args(["-mon", "chardev=monitor,mode=readline"]);

    // Several file systems may be mounted below the root: remap keeps inode numbers unique.
    command.args([
        "-virtfs",
        "local,path=/,mount_tag=hostroot,security_model=none,readonly=on,multidevs=remap",
    ]);
    command
        .arg("-virtfs")
        .arg(option("local,mount_tag=lab,security_model=none", &[("path", hardware.share)]));

    command.arg("-drive").arg(drive("nvme", hardware.nvme));
    command.args(["-device", "nvme,id=nvme0,serial=pi0"]);
    command.arg("-device").arg(format!("{NVME_NAMESPACE},drive=nvme,bus=nvme0"));

    // Another disk, which two controllers of one subsystem share. `guest/init.sh` knows their addresses.
    command.arg("-drive").arg(drive("shared", hardware.multipath));
    command.args(["-device", "nvme-subsys,id=subsystem,nqn=paths"]);
    for (number, address) in ["1c", "1d"].into_iter().enumerate() {
        let controller = format!("nvme,id=path{number},serial=paths,subsys=subsystem");
        command.arg("-device").arg(format!("{controller},addr=0x{address}"));
    }
    command.arg("-device").arg(format!("{NVME_NAMESPACE},drive=shared,bus=path0,shared=on"));

    command.args(["-device", "virtio-serial-pci,max_ports=8"]);
    if hardware.terminal {
        command.args(["-chardev", "stdio,id=terminal,signal=off"]);
        command.args(["-device", "virtconsole,chardev=terminal"]);
    }
    for (name, socket) in ports {
        let id = name.replace('.', "-");
        command.arg("-chardev").arg(format!("socket,id={id},fd={}", socket.as_raw_fd()));
        command.arg("-device").arg(format!("virtserialport,chardev={id},name={name}"));
    }
    command
}

/// A drive over an image. The content of the disk is temporary: flushes are unnecessary.
fn drive(id: &str, image: &Path) -> OsString {
    let start = format!("if=none,id={id},format=raw,cache=unsafe,file.locking=off");
    option(&start, &[("file", image)])
}

/// An option in QEMU's syntax, which doubles commas in values.
fn option(start: &str, paths: &[(&str, &Path)]) -> OsString {
    let mut text = start.as_bytes().to_vec();
    for (name, path) in paths {
        text.extend_from_slice(b",");
        text.extend_from_slice(name.as_bytes());
        text.extend_from_slice(b"=");
        for byte in OsStr::as_bytes(path.as_os_str()) {
            text.push(*byte);
            if *byte == b',' {
                text.push(b',');
            }
        }
    }
    OsString::from_vec(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comma_in_a_path_is_doubled() {
        assert_eq!(option("file,id=c", &[("path", Path::new("/a,b"))]), "file,id=c,path=/a,,b");
    }
}
