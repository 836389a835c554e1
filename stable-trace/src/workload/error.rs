//! What can keep a workload from running. Failures of its writes are not here: those are counted.

use std::io;
use std::path::PathBuf;

use rustix::io::Errno;

use super::profile::Profile;

/// Why the workload cannot run, and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum WorkloadError {
    /// Unknown value of `--profile`.
    #[error("`{0}` is not a profile: choose a, b, c, d, e, f, g or all")]
    UnknownProfile(String),
    /// `--threads` is out of range.
    #[error("--threads {threads} is out of range: choose 1 to {max}")]
    Threads {
        /// The value.
        threads: u32,
        /// The largest value.
        max: u32,
    },
    /// A profile with two modes needs a worker for each.
    #[error("profile {profile} needs at least {min} threads: raise --threads")]
    TooFewThreads {
        /// The profile.
        profile: Profile,
        /// Its smallest number of workers.
        min: u32,
    },
    /// `--duration 0`.
    #[error("--duration is zero, so nothing would run: give a time such as 30s")]
    NoDuration,
    /// `--io-size` is not a whole number of sectors, or too large.
    #[error("--io-size {io_size} is not a multiple of 512 between 512 and {max}: choose 4096")]
    IoSize {
        /// The value, in bytes.
        io_size: u64,
        /// The largest value, in bytes.
        max: u64,
    },
    /// A write is larger than the file.
    #[error(
        "--io-size {io_size} is larger than --file-size {file_size}: make the file larger, or the \
         writes smaller"
    )]
    IoLargerThanFile {
        /// Bytes of one write.
        io_size: u64,
        /// Bytes of the file.
        file_size: u64,
    },
    /// `--file-size` is beyond the largest file offset.
    #[error("--file-size {0} is larger than any file: choose a size such as 64KiB or 64MiB")]
    FileSize(u64),
    /// `--io-size` is not a whole number of pages, which the `O_DIRECT` profiles need.
    #[error(
        "profile {profile} opens the file O_DIRECT, and --io-size {io_size} is not a multiple of \
         the page size: choose a multiple of {page_size}"
    )]
    DirectIoSize {
        /// The profile.
        profile: Profile,
        /// Bytes of one write.
        io_size: u64,
        /// Bytes of a page.
        page_size: u64,
    },
    /// `--device-file` without `--yes`.
    #[error(
        "--device-file {} would be overwritten: add --yes if nothing on it is needed", .0.display()
    )]
    DeviceNotConfirmed(PathBuf),
    /// Profile g without `--yes` on a disk that may hold data.
    #[error(
        "profile g causes real integrity errors and corrupts data on purpose, and {device} is not \
         known to be a test disk ({reason}): use scsi_debug, null_blk, a loop device or a QEMU NVMe \
         disk, or add --yes"
    )]
    NotATestDisk {
        /// The disk below the path.
        device: String,
        /// Why it is not known to be a test disk.
        reason: String,
    },
    /// `--device-file` names another kind of file.
    #[error("--device-file {} is not a block device: name one, or use --path", .0.display())]
    NotABlockDevice(PathBuf),
    /// The device is mounted or claimed.
    #[error("{} is in use ({user}): unmount or detach that first", device.display())]
    DeviceInUse {
        /// The device.
        device: PathBuf,
        /// What uses it.
        user: String,
    },
    /// The device is smaller than `--file-size`.
    #[error(
        "{} has {size} bytes and --file-size asks for {file_size}: choose a smaller --file-size",
        device.display()
    )]
    DeviceTooSmall {
        /// The device.
        device: PathBuf,
        /// Its size in bytes.
        size: u64,
        /// The value of `--file-size`.
        file_size: u64,
    },
    /// `--path` cannot be opened as a directory.
    #[error("--path {}: {}", path.display(), explain(*errno, "it is not there: choose a directory that exists"))]
    Path {
        /// The directory.
        path: PathBuf,
        /// Why.
        errno: Errno,
    },
    /// The scratch file cannot be created.
    #[error("no scratch file in {}: {}", path.display(), explain(*errno, CANNOT_CREATE))]
    Create {
        /// The directory.
        path: PathBuf,
        /// Why.
        errno: Errno,
    },
    /// The blocks of the scratch file cannot be allocated.
    #[error(
        "no room for a scratch file of {file_size} bytes in {}: {}",
        path.display(), explain(*errno, CANNOT_CREATE)
    )]
    Allocate {
        /// The directory.
        path: PathBuf,
        /// The size of the file.
        file_size: u64,
        /// Why.
        errno: Errno,
    },
    /// The file system does not support `O_DIRECT`.
    #[error(
        "the file system at {} has no O_DIRECT, which profile {profile} needs: choose profile a, b \
         or c, or another --path", path.display()
    )]
    NoDirectIo {
        /// The directory.
        path: PathBuf,
        /// The profile.
        profile: Profile,
    },
    /// The file or the device cannot be opened.
    #[error("cannot open {}: {}", path.display(), explain(*errno, "it is not there: check the name"))]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        errno: Errno,
    },
    /// The path of the scratch file or the device leads to another file by now.
    #[error("{} was replaced by another file: leave it alone while wac runs", .0.display())]
    Replaced(PathBuf),
    /// No memory for a buffer or a mapping.
    #[error("cannot map {bytes} bytes of memory (lower --threads, --io-size or --file-size)")]
    Map {
        /// Length of the mapping.
        bytes: usize,
        /// Why.
        source: Errno,
    },
    /// A worker's thread cannot be started.
    #[error("cannot start worker {worker} (lower --threads or raise the limit `ulimit -u`)")]
    SpawnThread {
        /// Its number.
        worker: u32,
        /// Why.
        source: io::Error,
    },
    /// A bug in a worker.
    #[error("worker {0} panicked: this is a bug in stable-trace, please report it")]
    WorkerPanicked(u32),
    /// Signals cannot be blocked, so a signal would leave the scratch file behind.
    #[error("cannot catch SIGINT and SIGTERM, so nothing was started")]
    Signals(#[source] io::Error),
    /// The user of the process cannot be changed.
    #[error("cannot switch between root and user {uid} (run without sudo)")]
    DropPrivileges {
        /// The user who called `sudo`.
        uid: u32,
        /// Why.
        source: Errno,
    },
    /// The child process cannot be started.
    #[error("cannot start the workload {} (check that the file is executable)", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The output of the child process cannot be read.
    #[error("cannot read the output of the workload process (check whether it still runs)")]
    Read(#[source] io::Error),
    /// The child process cannot be waited for.
    #[error("cannot wait for the workload process (check whether it still runs)")]
    Wait(#[source] io::Error),
}

/// The explanation of `ENOENT` for an operation in a directory that was opened before.
const CANNOT_CREATE: &str = "no file can be made there: choose another directory";

/// Explains common errnos; `not_found` is the explanation of `ENOENT`.
fn explain(errno: Errno, not_found: &str) -> String {
    match errno {
        Errno::ROFS => "the file system is read-only: choose another --path".to_owned(),
        Errno::NOSPC => "the file system is full: free some space or lower --file-size".to_owned(),
        Errno::DQUOT => "the quota is used up: free some space or lower --file-size".to_owned(),
        Errno::FBIG => "the file system holds no file that large: lower --file-size".to_owned(),
        Errno::ACCESS | Errno::PERM => "no permission: choose a --path you can write to".to_owned(),
        Errno::NOTDIR => "not a directory: choose one".to_owned(),
        Errno::NOENT => not_found.to_owned(),
        Errno::MFILE => "too many open files: lower --threads or raise `ulimit -n`".to_owned(),
        Errno::BUSY => "it is in use: unmount or detach it first".to_owned(),
        other => format!("{other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_one_line_with_a_remedy() {
        for errno in [Errno::ROFS, Errno::NOSPC, Errno::ACCESS, Errno::NOENT, Errno::IO] {
            let text = WorkloadError::Create { path: "/mnt".into(), errno }.to_string();
            assert!(text.starts_with("no scratch file in /mnt: "), "{text}");
            assert!(!text.contains('\n') && !text.contains("  "), "{text}");
        }
        let text = WorkloadError::DeviceNotConfirmed("/dev/sdx".into()).to_string();
        assert!(text.contains("--yes"), "{text}");
    }
}
