//! The value of `--sync`.

use clap::ValueEnum;

/// What a worker does after each write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Sync {
    /// `sync_file_range` over the written range, with waits before and after; mmap workers call
    /// `msync(MS_SYNC | MS_INVALIDATE)` over its pages.
    #[value(name = "sync_file_range")]
    SyncFileRange,
    /// `fsync`, for all workers.
    Fsync,
    /// Nothing: the kernel decides when to write back.
    None,
}
