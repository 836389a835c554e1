//! The programs that make file systems.

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

/// Without discards, which leave tags behind that do not match on a disk with protection
/// information; and with nothing left to be written in the background, which no run asked for.
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

/// Makes sure that the program for a file system is there.
///
/// # Errors
/// [`ExperimentError::NoMkfs`] with the package to install.
pub fn require(fs: Fs) -> Result<(), ExperimentError> {
    let Mkfs { program, package, .. } = mkfs(fs);
    match Command::new(program).arg("-V").stdin(Stdio::null()).output() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(ExperimentError::NoMkfs { program, package })
        }
        _ => Ok(()),
    }
}

/// Makes a file system on a device, whose contents are lost.
///
/// # Errors
/// The program is missing, or fails.
pub fn make(fs: Fs, device: &Path) -> Result<(), ExperimentError> {
    let Mkfs { program, package, options } = mkfs(fs);
    let mut command = Command::new(program);
    // e2fsprogs, lib/ext2fs/unix_io.c: zeros are written, not asked for.
    command.args(options).arg(device).env("UNIX_IO_NOZEROOUT", "1").stdin(Stdio::null());
    // A Ctrl-C is ours to answer: what is half made here is taken back by us.
    command.process_group(0);
    // SAFETY: between fork and exec the closure makes one system call: it takes no lock and
    // allocates nothing.
    unsafe {
        command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
    }
    let output = command.output().map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => ExperimentError::NoMkfs { program, package },
        _ => ExperimentError::File { doing: "run", path: program.into(), source },
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
    Err(ExperimentError::Mkfs { program, status: output.status, said: last.trim().to_owned() })
}
