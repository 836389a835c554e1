//! Validates the options before the workload changes anything.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::args::WacArgs;
use super::error::WorkloadError;
use super::profile::Profile;
use super::sync::SyncMethod;

/// With more workers than this, the workload measures the scheduler.
const MAX_THREADS: u32 = 4096;

/// Half of the size at which Linux truncates a write (`MAX_RW_COUNT`, just below 2 GiB).
const MAX_IO_SIZE: u64 = 1 << 30;

/// The size of each write is a multiple of this: whole sectors, and whole 64-bit words.
const SECTOR: u64 = 512;

/// Where the workload writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A new scratch file in this directory.
    Directory(PathBuf),
    /// A whole block device, whose contents are lost.
    Device(PathBuf),
}

impl Target {
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Directory(path) | Self::Device(path) => path,
        }
    }
}

/// A validated workload. Sizes are in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Run one after the other, in this order.
    pub(crate) profiles: Vec<Profile>,
    pub(super) target: Target,
    /// At least one.
    pub(super) threads: u32,
    /// Size of the file, or of the rewritten part of the device.
    pub(super) file_size: u64,
    /// Size of one write: a multiple of 512, at most `file_size`.
    pub(super) io_size: u64,
    /// Of each profile.
    pub(super) duration: Duration,
    pub(super) sync: SyncMethod,
    pub(super) seed: u64,
    /// The user passed `--yes`.
    pub(super) confirmed: bool,
}

impl Plan {
    /// Validates `args` on a machine with pages of `page_size` bytes.
    ///
    /// Whether profile g may run without `--yes` depends on the disk, which [`super::wac::run`]
    /// checks.
    pub(crate) fn new(args: &WacArgs, page_size: u64) -> Result<Self, WorkloadError> {
        let profiles = parse_profiles(&args.profiles)?;
        let io_size = args.io_size.unwrap_or(page_size);
        let (threads, file_size) = (args.threads, args.file_size);
        if threads == 0 || threads > MAX_THREADS {
            return Err(WorkloadError::Threads { threads, max: MAX_THREADS });
        }
        if args.duration.is_zero() {
            return Err(WorkloadError::NoDuration);
        }
        if io_size == 0 || !io_size.is_multiple_of(SECTOR) || io_size > MAX_IO_SIZE {
            return Err(WorkloadError::IoSize { io_size, max: MAX_IO_SIZE });
        }
        if io_size > file_size {
            return Err(WorkloadError::IoLargerThanFile { io_size, file_size });
        }
        if i64::try_from(file_size).is_err() || usize::try_from(file_size).is_err() {
            return Err(WorkloadError::FileSize(file_size));
        }
        for &profile in &profiles {
            let min = profile.min_threads();
            if threads < min {
                return Err(WorkloadError::TooFewThreads { profile, min });
            }
            if profile.uses_direct_io() && !io_size.is_multiple_of(page_size) {
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

    /// Number of offsets that a write can have. A tail shorter than `io_size` is not written.
    pub(super) const fn slots(&self) -> u64 {
        self.file_size / self.io_size
    }
}

/// Parses profile names; `all` stands for the profiles of the 2011 stable-pages patch set.
fn parse_profiles(names: &[String]) -> Result<Vec<Profile>, WorkloadError> {
    let mut profiles = Vec::new();
    for name in names {
        if name.eq_ignore_ascii_case("all") {
            profiles.extend(Profile::PATCH_SET);
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
            sync: SyncMethod::SyncFileRange,
            seed: 1,
            device_file: None,
            yes: false,
        }
    }

    fn error(args: &WacArgs) -> String {
        Plan::new(args, 4096).unwrap_err().to_string()
    }

    #[test]
    fn defaults_are_valid() {
        let plan = Plan::new(&args(), 4096).unwrap();
        assert_eq!((plan.io_size, plan.slots()), (4096, 16));
        assert_eq!(plan.target, Target::Directory(".".into()));
    }

    #[test]
    fn all_stands_for_a_to_f_in_order() {
        let plan = Plan::new(&WacArgs { profiles: vec!["all".into()], ..args() }, 4096).unwrap();
        assert_eq!(plan.profiles, Profile::PATCH_SET);
        let plan = WacArgs { profiles: vec!["G".into(), "a".into()], ..args() };
        let plan = Plan::new(&plan, 4096).unwrap();
        assert_eq!(plan.profiles, [Profile::G, Profile::A]);
    }

    #[test]
    fn invalid_options_are_rejected_with_a_remedy() {
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
            (WacArgs { profiles: vec!["x".into()], ..args() }, "`x` is not a profile"),
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
            let text = error(&args);
            assert!(text.contains(expected), "{text} lacks {expected}");
        }
    }

    #[test]
    fn buffered_writes_may_be_smaller_than_a_page() {
        let plan = Plan::new(&WacArgs { io_size: Some(512), ..args() }, 4096).unwrap();
        assert_eq!(plan.slots(), 128);
    }

    #[test]
    fn direct_io_needs_whole_pages_of_any_page_size() {
        let direct = WacArgs { profiles: vec!["e".into()], io_size: Some(4096), ..args() };
        assert!(Plan::new(&direct, 65_536).is_err());
        assert!(Plan::new(&direct, 4096).is_ok());
    }
}
