//! The value of `--sync`.

use clap::ValueEnum;

/// What a worker does after each write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SyncMethod {
    /// `sync_file_range` that waits before and after; for mmap workers `msync`
    #[value(name = "sync_file_range")]
    SyncFileRange,
    /// `fsync` for all workers
    Fsync,
    /// No sync: the kernel decides when to write back
    None,
}
