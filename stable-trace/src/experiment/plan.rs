//! What is measured, and in which order. Pure.

use super::{
    args::{ExperimentArgs, Fs},
    error::ExperimentError,
};
use crate::workload::{Plan as WacPlan, Profile};

/// Bytes of the scratch file, unless the files are large: XFS wants 300 MB.
pub const SCRATCH: u64 = 512 << 20;

/// Of the scratch file, one part in so many is the largest file.
const SHARE: u64 = 4;

/// Whether stable writes are asked for in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Arm {
    /// `queue/stable_writes` 1.
    On,
    /// `queue/stable_writes` 0.
    Off,
}

/// What one cell of the table is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    /// The file system.
    pub fs: Fs,
    /// What the workers do.
    pub profile: Profile,
    /// Bytes of the file.
    pub file_size: u64,
}

/// Everything that is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// In this order: those of one file system together.
    pub cases: Vec<Case>,
    /// Pairs of runs for each.
    pub pairs: u32,
    /// Bytes that the scratch file should have, if there is one.
    pub scratch: u64,
}

impl Plan {
    /// Checks options on a machine with pages of `page_size` bytes.
    ///
    /// # Errors
    /// The first thing about them that cannot be done.
    pub fn new(args: &ExperimentArgs, page_size: u64) -> Result<Self, ExperimentError> {
        if let (Some(device), false) = (&args.device, args.yes) {
            return Err(ExperimentError::NotConfirmed(device.clone()));
        }
        let mut profiles = Vec::new();
        for name in &args.profiles {
            for &file_size in &args.file_sizes {
                // The workload's own rules, before anything is touched.
                let wac = WacPlan::new(&args.wac(name, file_size, ".".into()), page_size)?;
                profiles.extend(wac.profiles);
            }
        }
        let mut cases = Vec::new();
        for &fs in &args.file_systems {
            for &profile in &profiles {
                for &file_size in &args.file_sizes {
                    let case = Case { fs, profile, file_size };
                    if !cases.contains(&case) {
                        cases.push(case);
                    }
                }
            }
        }
        let largest = args.file_sizes.iter().copied().max().unwrap_or(0);
        let room = largest.saturating_mul(SHARE).next_multiple_of(page_size.max(1)).max(SCRATCH);
        let plan = Self { cases, pairs: args.pairs, scratch: args.scratch.unwrap_or(room) };
        if args.device.is_none() {
            plan.check_room(plan.scratch)?;
        }
        Ok(plan)
    }

    /// Makes sure that the files fit on a device of so many bytes, with room for what a file system
    /// keeps beside them.
    ///
    /// # Errors
    /// [`ExperimentError::TooLarge`] for the first that does not.
    pub fn check_room(&self, room: u64) -> Result<(), ExperimentError> {
        match self.cases.iter().find(|case| case.file_size > room / 2) {
            Some(case) => Err(ExperimentError::TooLarge { file_size: case.file_size, room }),
            None => Ok(()),
        }
    }
}

/// The order of the runs of a pair: on, off, then off, on, and so on, so that whatever drifts
/// while the experiment runs hits both arms alike.
#[must_use]
pub const fn order(pair: u32) -> [Arm; 2] {
    if pair.is_multiple_of(2) { [Arm::On, Arm::Off] } else { [Arm::Off, Arm::On] }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: ExperimentArgs,
    }

    fn plan(words: &[&str]) -> Result<Plan, String> {
        let args = Cli::try_parse_from(["experiment"].iter().chain(words)).unwrap().args;
        Plan::new(&args, 4096).map_err(|error| error.to_string())
    }

    #[test]
    fn the_default_is_one_cell_of_five_pairs() {
        let plan = plan(&[]).unwrap();
        let case = Case { fs: Fs::Ext4, profile: Profile::A, file_size: 65_536 };
        assert_eq!(plan, Plan { cases: vec![case], pairs: 5, scratch: SCRATCH });
    }

    #[test]
    fn file_systems_times_profiles_times_sizes_each_once() {
        let words = ["--fs=xfs", "--fs=ext4", "--profile=all", "--profile=a", "--file-size=64k"];
        let plan = plan(&[&words[..], &["--file-size=64M"]].concat()).unwrap();
        assert_eq!(plan.cases.len(), 2 * 6 * 2);
        assert!(plan.cases[..12].iter().all(|case| case.fs == Fs::Xfs));
        assert_eq!((plan.cases[0].file_size, plan.cases[1].file_size), (65_536, 64 << 20));
    }

    #[test]
    fn the_scratch_file_grows_with_the_files() {
        assert_eq!(plan(&["--file-size=64MiB"]).unwrap().scratch, SCRATCH);
        assert_eq!(plan(&["--file-size=1GiB"]).unwrap().scratch, 4 << 30);
        assert_eq!(plan(&["--scratch=300MiB"]).unwrap().scratch, 300 << 20);
    }

    #[test]
    fn what_cannot_be_done_is_refused_first() {
        for (words, expected) in [
            (&["--device=sdz"][..], "--device sdz would be overwritten: add --yes"),
            (&["--scratch=64MiB", "--file-size=64MiB"], "raise --scratch"),
            (&["--threads=0"], "--threads 0"),
            (&["--duration=0"], "--duration is zero"),
        ] {
            let error = plan(words).unwrap_err();
            assert!(error.contains(expected), "{error} lacks {expected}");
        }
    }

    #[test]
    fn each_arm_is_first_as_often_as_second() {
        use Arm::{Off, On};

        let all: Vec<_> = (0..4).flat_map(order).collect();
        assert_eq!(all, [On, Off, Off, On, On, Off, Off, On]);
    }
}
