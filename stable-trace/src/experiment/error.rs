//! What can keep an experiment from running to its end.

use std::{io, path::PathBuf, process::ExitStatus};

use aya::maps::MapError;
use rustix::io::Errno;

use super::args::Fs;
use crate::{kernel::devices::DevicesError, trace::tracer::TracerError, workload::WorkloadError};

/// Why an experiment did not run or not to its end, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum ExperimentError {
    /// Options that the workload cannot do.
    #[error(transparent)]
    Workload(#[from] WorkloadError),
    /// The file is larger than what it is to be on.
    #[error(
        "--file-size {file_size} does not fit: the file system gets {room} bytes, and a file may \
         take half of them; raise --scratch or lower --file-size"
    )]
    TooLarge {
        /// Bytes of the file.
        file_size: u64,
        /// Bytes of the scratch file or the device.
        room: u64,
    },
    /// A device's contents would be destroyed without consent.
    #[error("--device {0} would be overwritten: add --yes if nothing on it is needed")]
    NotConfirmed(String),
    /// No such device.
    #[error("--device")]
    Device(#[from] DevicesError),
    /// A folder or file of the experiment's own.
    #[error("cannot {doing} {}: {source}", path.display())]
    File {
        /// What was tried.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// There is no loop device to be had.
    #[error("no loop device for the scratch file: {0}; load the module `loop`, or use --device")]
    Loop(#[source] io::Error),
    /// The program that makes the file system is missing.
    #[error("{program} is not installed: install {package}, or choose another --fs")]
    NoMkfs {
        /// The program.
        program: &'static str,
        /// Debian's package of it.
        package: &'static str,
    },
    /// The program that makes the file system failed.
    #[error("{program} failed ({status}): {said}; a larger --scratch may help")]
    Mkfs {
        /// The program.
        program: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// The last line that it said.
        said: String,
    },
    /// The file system cannot be mounted.
    #[error("cannot mount {fs} on {}: {}", device.display(), explain(*errno, *fs))]
    Mount {
        /// Which.
        fs: Fs,
        /// On what.
        device: PathBuf,
        /// What the kernel said.
        errno: Errno,
    },
    /// No mounts of one's own.
    #[error("cannot have mounts that nobody else sees ({0}): run as root, or with CAP_SYS_ADMIN")]
    Namespace(Errno),
    /// The switch cannot be set.
    #[error("cannot write {value} to {}: {source}", path.display())]
    Switch {
        /// The attribute.
        path: PathBuf,
        /// What should stand there.
        value: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The workload did not run to its end.
    #[error("the workload ended badly ({0}); what it said stands above")]
    Ended(ExitStatus),
    /// It was told to end.
    #[error("told to end before all was measured; everything is put back")]
    Interrupted,
    /// Something could not be put back.
    #[error(
        "could not put everything back: {0}; run `stable-trace experiment --clean` when the reason \
         is gone"
    )]
    NotPutBack(String),
    /// The tracer has trouble.
    #[error(transparent)]
    Tracer(#[from] TracerError),
    /// The kernel's counts cannot be read.
    #[error("the counts cannot be read: {0}")]
    Map(#[from] MapError),
    /// The outcome cannot be written.
    #[error("the outcome cannot be written: {0}")]
    Write(#[source] io::Error),
    /// Signals cannot be watched.
    #[error("SIGINT and SIGTERM cannot be watched ({0}): nothing was started")]
    Signals(#[source] io::Error),
}

fn explain(errno: Errno, fs: Fs) -> String {
    match errno {
        Errno::NODEV => format!("this kernel has no {fs}; choose another --fs"),
        Errno::BUSY => "the device is in use; unmount or detach it first".to_owned(),
        other => other.to_string(),
    }
}
