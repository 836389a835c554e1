//! Why an experiment fails.

use std::{io, path::PathBuf, process::ExitStatus};

use aya::maps::MapError;
use rustix::io::Errno;

use super::args::Fs;
use crate::{kernel::devices::DevicesError, trace::TracerError, workload::WorkloadError};

/// Why an experiment cannot run or did not complete, and the remedy.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExperimentError {
    #[error(transparent)]
    Workload(#[from] WorkloadError),
    #[error(
        "--file-size {file_size} does not fit: the file system gets {room} bytes, and a file may \
         take half of them; raise --scratch or lower --file-size"
    )]
    TooLarge {
        file_size: u64,
        /// Bytes of the scratch file or the device.
        room: u64,
    },
    #[error("--device {0} would be overwritten: add --yes if nothing on it is needed")]
    NotConfirmed(String),
    #[error("--device")]
    Device(#[from] DevicesError),
    #[error("cannot {action} {}", path.display())]
    File {
        /// An infinitive, such as `write`.
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("no loop device for the scratch file (load the module `loop`, or use --device)")]
    LoopDevice(#[source] io::Error),
    #[error("{program} is not installed: install {package}, or choose another --fs")]
    NoMkfs {
        program: &'static str,
        /// The name in Debian.
        package: &'static str,
    },
    #[error("{program} failed ({status}): {message}; a larger --scratch may help")]
    Mkfs {
        program: &'static str,
        status: ExitStatus,
        /// The last line of its standard error.
        message: String,
    },
    #[error("cannot mount {fs} on {}: {}", device.display(), explain(*errno, *fs))]
    Mount { fs: Fs, device: PathBuf, errno: Errno },
    #[error("cannot create a private mount namespace (run as root, or with CAP_SYS_ADMIN)")]
    Namespace(#[source] Errno),
    #[error("cannot write {value} to {}", path.display())]
    SetStableWrites { path: PathBuf, value: String, source: io::Error },
    #[error("the workload failed ({0}); see its messages above")]
    WorkloadFailed(ExitStatus),
    #[error("interrupted before the last measurement; everything is put back")]
    Interrupted,
    #[error(
        "could not put everything back: {0}; run `stable-trace experiment --clean` when the reason \
         is gone"
    )]
    Undo(String),
    #[error(transparent)]
    Tracer(#[from] TracerError),
    #[error("cannot read the counters of the probes")]
    Map(#[from] MapError),
    #[error("cannot write the result")]
    Write(#[source] io::Error),
    #[error("cannot create the event loop, so nothing was started")]
    EventLoop(#[source] io::Error),
}

fn explain(errno: Errno, fs: Fs) -> String {
    match errno {
        Errno::NODEV => format!("this kernel has no {fs}; choose another --fs"),
        Errno::BUSY => "the device is in use; unmount or detach it first".to_owned(),
        other => other.to_string(),
    }
}
