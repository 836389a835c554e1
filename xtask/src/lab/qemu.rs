//! The virtual machine as QEMU's command line.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;
use std::process::Command;

use super::accel::Engine;
use super::kernel::Kernel;

/// The program.
pub const PROGRAM: &str = "qemu-system-x86_64";

/// Everything that differs from one guest to the next.
#[derive(Debug)]
pub struct Hardware<'a> {
    /// How instructions are run.
    pub engine: Engine,
    /// What boots.
    pub kernel: &'a Kernel,
    /// Its first root file system, a file.
    pub initrd: &'a Path,
    /// What the guest has as `/lab`, writable.
    pub share: &'a Path,
    /// Where the kernel's console goes.
    pub console: &'a Path,
    /// The image of the NVMe disk.
    pub nvme: &'a Path,
    /// Where QEMU's monitor listens; QEMU must inherit it.
    pub monitor: &'a OwnedFd,
    /// Whether there is a terminal, on QEMU's own standard input and output.
    pub terminal: bool,
}

/// Data blocks of the NVMe disk, and the bytes of each: 390 MiB, for xfs wants 300. The image is
/// sparse.
const NVME_BLOCKS: u64 = 100_000;
const NVME_BLOCK: u64 = 4096;
/// Bytes of metadata for each block, where its protection information is. QEMU keeps it behind
/// the data, so an image is larger than its disk.
const NVME_METADATA: u64 = 8;

/// The size of the image of the NVMe disk, in bytes.
pub const NVME_IMAGE: u64 = NVME_BLOCKS * (NVME_BLOCK + NVME_METADATA);

/// Puts the command together. Each of `ports` becomes a virtio serial port of that name, joined to
/// the socket, which QEMU must inherit.
pub fn command(hardware: &Hardware<'_>, ports: &[(&str, &OwnedFd)]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(hardware.engine.arguments());
    command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
    command.args(["-smp", "2", "-m", "3G"]);
    command.arg("-kernel").arg(&hardware.kernel.image);
    command.arg("-initrd").arg(hardware.initrd);
    // A panic or an oops ends the machine. Mitigations only cost time here. The log must have room
    // for what a disk that reports thousands of errors has the kernel say.
    command.args([
        "-append",
        "console=ttyS0 quiet panic=-1 oops=panic mitigations=off log_buf_len=16M sysrq_always_enabled",
    ]);
    command.arg("-chardev").arg(option("file,id=console", &[("path", hardware.console)]));
    command.args(["-serial", "chardev:console"]);
    let monitor = hardware.monitor.as_raw_fd();
    command.arg("-chardev").arg(format!("socket,id=monitor,fd={monitor}"));
    command.args(["-mon", "chardev=monitor,mode=readline"]);

    // Several file systems may hang below one root: remap keeps their inodes apart.
    command.args([
        "-virtfs",
        "local,path=/,mount_tag=hostroot,security_model=none,readonly=on,multidevs=remap",
    ]);
    command
        .arg("-virtfs")
        .arg(option("local,mount_tag=lab,security_model=none", &[("path", hardware.share)]));

    // What the disk holds dies with the guest: flushes need not reach the medium.
    command.arg("-drive").arg(option(
        "if=none,id=nvme,format=raw,cache=unsafe,file.locking=off",
        &[("file", hardware.nvme)],
    ));
    command.args(["-device", "nvme,id=nvme0,serial=pi0"]);
    // Type 1, guard first, separate metadata (the one form that Linux maps to integrity). Without
    // physical_block_size QEMU 7.2 refuses.
    command.args(["-device", "nvme-ns,drive=nvme,bus=nvme0,ms=8,mset=0,pi=1,pil=0,logical_block_size=4096,physical_block_size=4096"]);

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

/// QEMU's option syntax: a comma in a value is written twice.
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
    fn a_comma_in_a_path_is_no_separator() {
        assert_eq!(option("file,id=c", &[("path", Path::new("/a,b"))]), "file,id=c,path=/a,,b");
    }
}
