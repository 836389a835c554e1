//! What the options mean, checked before anything is touched.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;

use super::args::WacArgs;
use super::error::WorkloadError;
use super::profile::Profile;

/// More workers than this measure the scheduler.
pub const MOST_THREADS: u32 = 4096;

/// Linux cuts a write off just below 2 GiB; half of that leaves no doubt.
pub const MOST_IO_SIZE: u64 = 1 << 30;

/// The unit of every write, which makes all of them whole words, and whole sectors.
const SECTOR: u64 = 512;

/// What follows each write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Sync {
    /// `sync_file_range` that waits before and after; for mmap workers `msync`
    #[value(name = "sync_file_range")]
    SyncFileRange,
    /// `fsync` for all workers
    Fsync,
    /// No sync: the kernel decides when to write back
    None,
}

/// Where the workload writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A scratch file of its own in this directory.
    Directory(PathBuf),
    /// A whole block device, whose contents are lost.
    Device(PathBuf),
}

impl Target {
    /// The directory or the device.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Directory(path) | Self::Device(path) => path,
        }
    }
}

/// A workload that makes sense. Sizes are bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// They run one after the other, in this order.
    pub profiles: Vec<Profile>,
    /// Where.
    pub target: Target,
    /// Workers, at least one.
    pub threads: u32,
    /// Bytes of the file, or of the part of the device, that is rewritten.
    pub file_size: u64,
    /// Bytes of one write: a multiple of 512, at most `file_size`.
    pub io_size: u64,
    /// How long each profile runs.
    pub duration: Duration,
    /// What follows each write.
    pub sync: Sync,
    /// Seed of the random offsets.
    pub seed: u64,
    /// The user said `--yes`.
    pub confirmed: bool,
}

impl Plan {
    /// Checks `args` on a machine with pages of `page_size` bytes.
    ///
    /// Whether profile g may run without `--yes` depends on the disk: [`super::wac::run`] looks.
    ///
    /// # Errors
    /// The first thing about `args` that cannot be done.
    pub fn new(args: &WacArgs, page_size: u64) -> Result<Self, WorkloadError> {
        let profiles = expand(&args.profiles)?;
        let io_size = args.io_size.unwrap_or(page_size);
        let (threads, file_size) = (args.threads, args.file_size);
        if threads == 0 || threads > MOST_THREADS {
            return Err(WorkloadError::Threads { threads, most: MOST_THREADS });
        }
        if args.duration.is_zero() {
            return Err(WorkloadError::NoDuration);
        }
        if io_size == 0 || !io_size.is_multiple_of(SECTOR) || io_size > MOST_IO_SIZE {
            return Err(WorkloadError::IoSize { io_size, most: MOST_IO_SIZE });
        }
        if io_size > file_size {
            return Err(WorkloadError::IoLargerThanFile { io_size, file_size });
        }
        if i64::try_from(file_size).is_err() || usize::try_from(file_size).is_err() {
            return Err(WorkloadError::FileSize(file_size));
        }
        for &profile in &profiles {
            let least = profile.least_threads();
            if threads < least {
                return Err(WorkloadError::TooFewThreads { profile, least });
            }
            if profile.direct() && !io_size.is_multiple_of(page_size) {
                return Err(WorkloadError::DirectIoSize { profile, io_size, page_size });
            }
        }
        let target = match &args.device_file {
            Some(device) if !args.yes => {
                return Err(WorkloadError::DeviceNotConfirmed(device.clone()));
            }
            Some(device) => Target::Device(device.clone()),
            None => Target::Directory(args.path.clone()),
        };
        Ok(Self {
            profiles,
            target,
            threads,
            file_size,
            io_size,
            duration: args.duration,
            sync: args.sync,
            seed: args.seed,
            confirmed: args.yes,
        })
    }

    /// Places of `io_size` bytes that a write can go to; a shorter tail stays as it is.
    #[must_use]
    pub const fn slots(&self) -> u64 {
        self.file_size / self.io_size
    }
}

/// Names to profiles; `all` is the seed's six.
fn expand(names: &[String]) -> Result<Vec<Profile>, WorkloadError> {
    let mut profiles = Vec::new();
    for name in names {
        if name.eq_ignore_ascii_case("all") {
            profiles.extend(Profile::SEED);
        } else {
            let profile = Profile::from_name(name);
            profiles.push(profile.ok_or_else(|| WorkloadError::UnknownProfile(name.clone()))?);
        }
    }
    Ok(profiles)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> WacArgs {
        WacArgs {
            profiles: vec!["a".into()],
            path: ".".into(),
            threads: 64,
            file_size: 65_536,
            io_size: None,
            duration: Duration::from_secs(30),
            sync: Sync::SyncFileRange,
            seed: 1,
            device_file: None,
            yes: false,
        }
    }

    fn refused(args: &WacArgs) -> String {
        Plan::new(args, 4096).unwrap_err().to_string()
    }

    #[test]
    fn the_default_is_sane() {
        let plan = Plan::new(&args(), 4096).unwrap();
        assert_eq!((plan.io_size, plan.slots()), (4096, 16));
        assert_eq!(plan.target, Target::Directory(".".into()));
    }

    #[test]
    fn all_is_a_to_f_in_order() {
        let plan = Plan::new(&WacArgs { profiles: vec!["all".into()], ..args() }, 4096).unwrap();
        assert_eq!(plan.profiles, Profile::SEED);
        let plan = WacArgs { profiles: vec!["G".into(), "a".into()], ..args() };
        let plan = Plan::new(&plan, 4096).unwrap();
        assert_eq!(plan.profiles, [Profile::G, Profile::A]);
    }

    #[test]
    fn nonsense_is_refused_with_the_remedy() {
        for (args, expected) in [
            (WacArgs { threads: 0, ..args() }, "--threads 0 is out of range"),
            (WacArgs { threads: 5000, ..args() }, "choose 1 to 4096"),
            (WacArgs { duration: Duration::ZERO, ..args() }, "--duration is zero"),
            (WacArgs { io_size: Some(0), ..args() }, "not a multiple of 512"),
            (WacArgs { io_size: Some(1000), ..args() }, "not a multiple of 512"),
            (WacArgs { io_size: Some(1 << 31), file_size: 1 << 40, ..args() }, "--io-size 2147"),
            (WacArgs { file_size: 0, ..args() }, "larger than --file-size 0"),
            (WacArgs { io_size: Some(131_072), ..args() }, "larger than --file-size 65536"),
            (WacArgs { file_size: u64::MAX, ..args() }, "larger than any file"),
            (WacArgs { profiles: vec!["x".into()], ..args() }, "`x` is no profile"),
            (
                WacArgs { profiles: vec!["c".into()], threads: 1, ..args() },
                "profile c needs at least 2 threads",
            ),
            (
                WacArgs { profiles: vec!["a".into(), "e".into()], io_size: Some(512), ..args() },
                "profile e opens the file O_DIRECT",
            ),
            (WacArgs { device_file: Some("/dev/sdz".into()), ..args() }, "add --yes"),
        ] {
            let text = refused(&args);
            assert!(text.contains(expected), "{text} lacks {expected}");
        }
    }

    #[test]
    fn buffered_writes_may_be_smaller_than_a_page() {
        let plan = Plan::new(&WacArgs { io_size: Some(512), ..args() }, 4096).unwrap();
        assert_eq!(plan.slots(), 128);
    }

    #[test]
    fn large_pages_count_for_direct_io() {
        let direct = WacArgs { profiles: vec!["e".into()], io_size: Some(4096), ..args() };
        assert!(Plan::new(&direct, 65_536).is_err());
        assert!(Plan::new(&direct, 4096).is_ok());
    }
}
