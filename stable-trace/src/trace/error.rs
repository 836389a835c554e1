//! Why tracing cannot start or go on.

use std::io;

use aya::maps::MapError;

use crate::{
    kernel::{mounts::MountsError, symbols::SymbolsError, tracefs::TracefsError},
    probes::attach::AttachError,
};

/// Why tracing cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TracerError {
    /// The kernel's symbols cannot be read.
    #[error(transparent)]
    Symbols(#[from] SymbolsError),
    /// tracefs is not available.
    #[error(transparent)]
    Tracefs(#[from] TracefsError),
    /// The mounts cannot be read.
    #[error(transparent)]
    Mounts(#[from] MountsError),
    /// No probe can attach, or the programs cannot be loaded.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// An eBPF map cannot be read or written.
    #[error("cannot read or write an eBPF map (please report it)")]
    Map(#[from] MapError),
    /// `--pid` names a process that the programs cannot recognise.
    #[error(
        "--pid {pid}: stable-trace is in a PID namespace whose pids it cannot translate: {reason} (run it in the initial PID namespace)"
    )]
    PidNamespace {
        /// The pid.
        pid: u32,
        /// Why not.
        reason: String,
    },
    /// The ring buffer cannot be read.
    #[error("cannot read the ring buffer")]
    Ring(#[source] io::Error),
}
