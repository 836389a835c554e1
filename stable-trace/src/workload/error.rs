//! What can keep a workload from running. Failures of its writes are not here: those are counted.

use std::io;
use std::path::PathBuf;

use rustix::io::Errno;

use super::profile::Profile;

/// Why the workload did not run, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum WorkloadError {
    /// `--profile` names none.
    #[error("`{0}` is no profile: choose a, b, c, d, e, f, g or all")]
    UnknownProfile(String),
    /// `--threads` is out of range.
    #[error("--threads {threads} is out of range: choose 1 to {most}")]
    Threads {
        /// What was asked for.
        threads: u32,
        /// The most there can be.
        most: u32,
    },
    /// Half and half needs two.
    #[error("profile {profile} needs at least {least} threads: raise --threads")]
    TooFewThreads {
        /// The profile.
        profile: Profile,
        /// The fewest it takes.
        least: u32,
    },
    /// `--duration 0`.
    #[error("--duration is zero, so nothing would run: give a time such as 30s")]
    NoDuration,
    /// `--io-size` is not made of sectors, or is too large.
    #[error("--io-size {io_size} is not a multiple of 512 between 512 and {most}: choose 4096")]
    IoSize {
        /// What was asked for, in bytes.
        io_size: u64,
        /// The largest, in bytes.
        most: u64,
    },
    /// A write does not fit into the file.
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
    /// A file that no file offset can reach.
    #[error("--file-size {0} is larger than any file: choose a size such as 64KiB or 64MiB")]
    FileSize(u64),
    /// `O_DIRECT` moves whole pages here.
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
    /// A device's contents would be destroyed without consent.
    #[error(
        "--device-file {} would be overwritten: add --yes if nothing on it is needed", .0.display()
    )]
    DeviceNotConfirmed(PathBuf),
    /// Profile g on a disk that may be somebody's.
    #[error(
        "profile g makes genuine integrity errors and garbage on purpose, and {device} is not known \
         to be a test disk ({reason}): use scsi_debug, null_blk, a loop device or a QEMU NVMe disk, \
         or add --yes"
    )]
    NotATestDisk {
        /// What lies below the path.
        device: String,
        /// Why it is not known to be one.
        reason: String,
    },
    /// Not a block device.
    #[error("--device-file {} is not a block device: name one, or use --path", .0.display())]
    NotABlockDevice(PathBuf),
    /// Something else uses the device.
    #[error("{} is in use ({user}): unmount or detach that first", device.display())]
    DeviceInUse {
        /// The device.
        device: PathBuf,
        /// Who uses it.
        user: String,
    },
    /// The device is smaller than the file is to be.
    #[error(
        "{} has {size} bytes and --file-size asks for {file_size}: choose a smaller --file-size",
        device.display()
    )]
    DeviceTooSmall {
        /// The device.
        device: PathBuf,
        /// Its bytes.
        size: u64,
        /// The bytes asked for.
        file_size: u64,
    },
    /// `--path` is nothing to put a file in.
    #[error("--path {}: {}", path.display(), explain(*errno, "it is not there: choose a directory that exists"))]
    Path {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        errno: Errno,
    },
    /// No scratch file there.
    #[error("no scratch file in {}: {}", path.display(), explain(*errno, VANISHED))]
    Create {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        errno: Errno,
    },
    /// The scratch file does not get its blocks.
    #[error(
        "no room for a scratch file of {file_size} bytes in {}: {}",
        path.display(), explain(*errno, VANISHED)
    )]
    Allocate {
        /// The directory.
        path: PathBuf,
        /// The bytes asked for.
        file_size: u64,
        /// What the kernel said.
        errno: Errno,
    },
    /// The file system has no `O_DIRECT`.
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
    /// A file or a device that could not be opened.
    #[error("cannot open {}: {}", path.display(), explain(*errno, "it is not there: check the name"))]
    Open {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        errno: Errno,
    },
    /// Somebody put another file in the scratch file's place.
    #[error("{} is no longer the file that was made: leave it alone while wac runs", .0.display())]
    Replaced(PathBuf),
    /// No memory for a buffer or a mapping.
    #[error(
        "cannot map {bytes} bytes of memory ({errno}): lower --threads, --io-size or --file-size"
    )]
    Map {
        /// How much.
        bytes: usize,
        /// What the kernel said.
        errno: Errno,
    },
    /// A worker could not be started.
    #[error(
        "cannot start worker {worker} ({source}): lower --threads or raise the limit `ulimit -u`"
    )]
    Spawn {
        /// Its number.
        worker: u32,
        /// What the kernel said.
        source: io::Error,
    },
    /// A worker ended other than it should.
    #[error("worker {0} panicked: this is a bug in stable-trace, please report it")]
    WorkerPanicked(u32),
    /// Signals cannot be caught, so the scratch file might stay behind.
    #[error("cannot catch SIGINT and SIGTERM ({0}): nothing was started")]
    Signals(io::Error),
    /// Root was half given up.
    #[error("cannot switch between root and user {uid} ({errno}): run without sudo")]
    Identity {
        /// The invoking user.
        uid: u32,
        /// What the kernel said.
        errno: Errno,
    },
    /// The child process did not start.
    #[error("cannot start the workload {} ({source}): check that the file can be run", program.display())]
    Child {
        /// The program.
        program: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The child process cannot be waited for or talked to.
    #[error("lost touch with the workload process ({0}): see whether it still runs")]
    ChildLost(io::Error),
}

/// What `ENOENT` means for a directory that was there a moment ago.
const VANISHED: &str = "no file can be made there: choose another directory";

/// A sentence for the errnos a user meets; `gone` says what `ENOENT` means here.
fn explain(errno: Errno, gone: &str) -> String {
    match errno {
        Errno::ROFS => "the file system is read-only: choose another --path".to_owned(),
        Errno::NOSPC => "the file system is full: free some space or lower --file-size".to_owned(),
        Errno::DQUOT => "the quota is used up: free some space or lower --file-size".to_owned(),
        Errno::FBIG => "the file system holds no file that large: lower --file-size".to_owned(),
        Errno::ACCESS | Errno::PERM => "no permission: choose a --path you can write to".to_owned(),
        Errno::NOTDIR => "not a directory: choose one".to_owned(),
        Errno::NOENT => gone.to_owned(),
        Errno::MFILE => "too many open files: lower --threads or raise `ulimit -n`".to_owned(),
        Errno::BUSY => "it is in use: unmount or detach it first".to_owned(),
        other => format!("{other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_one_line_and_says_what_to_do() {
        for errno in [Errno::ROFS, Errno::NOSPC, Errno::ACCESS, Errno::NOENT, Errno::IO] {
            let text = WorkloadError::Create { path: "/mnt".into(), errno }.to_string();
            assert!(text.starts_with("no scratch file in /mnt: "), "{text}");
            assert!(!text.contains('\n') && !text.contains("  "), "{text}");
        }
        let text = WorkloadError::DeviceNotConfirmed("/dev/sdx".into()).to_string();
        assert!(text.contains("--yes"), "{text}");
    }
}
