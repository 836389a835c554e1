//! Makes file systems with the `mkfs` programs.

use std::{
    io,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, Stdio},
};

use rustix::process::{Signal, set_parent_process_death_signal};

use super::{args::Fs, error::ExperimentError};

struct Mkfs {
    program: &'static str,
    package: &'static str,
    options: &'static [&'static str],
}

/// The options prevent discards, which leave mismatching tags on a disk with protection
/// information, and lazy initialisation, which would write in the background during the runs.
const fn mkfs(fs: Fs) -> Mkfs {
    match fs {
        Fs::Ext4 => Mkfs {
            program: "mkfs.ext4",
            package: "e2fsprogs",
            options: &["-q", "-F", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0"],
        },
        Fs::Xfs => Mkfs { program: "mkfs.xfs", package: "xfsprogs", options: &["-q", "-f", "-K"] },
        Fs::Btrfs => {
            Mkfs { program: "mkfs.btrfs", package: "btrfs-progs", options: &["-q", "-f", "-K"] }
        }
    }
}

/// Checks that the program for a file system is installed.
pub(super) fn require(fs: Fs) -> Result<(), ExperimentError> {
    let Mkfs { program, package, .. } = mkfs(fs);
    match Command::new(program).arg("-V").stdin(Stdio::null()).output() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(ExperimentError::NoMkfs { program, package })
        }
        _ => Ok(()),
    }
}

/// Makes a file system on a device, whose contents are lost.
pub(super) fn make(fs: Fs, device: &Path) -> Result<(), ExperimentError> {
    let Mkfs { program, package, options } = mkfs(fs);
    let mut command = Command::new(program);
    // mke2fs writes zeros instead of asking the device to (e2fsprogs, lib/ext2fs/unix_io.c).
    command.args(options).arg(device).env("UNIX_IO_NOZEROOUT", "1").stdin(Stdio::null());
    // Not in the foreground process group, so that only this process gets the SIGINT of a Ctrl-C.
    command.process_group(0);
    // SAFETY: between fork and exec the closure makes one system call: it takes no lock and does
    // not allocate memory.
    unsafe {
        command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
    }
    let output = command.output().map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => ExperimentError::NoMkfs { program, package },
        _ => ExperimentError::File { action: "run", path: program.into(), source },
    })?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let last = stderr.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no message");
    Err(ExperimentError::Mkfs { program, status: output.status, message: last.trim().to_owned() })
}
