//! Validates the options and determines what is measured, and in which order. Pure.

use super::{
    args::{ExperimentArgs, Fs},
    error::ExperimentError,
};
use crate::workload::{Plan as WacPlan, Profile};

/// Smallest default size of the scratch file: mkfs.xfs needs 300 MB.
const MIN_SCRATCH: u64 = 512 << 20;

/// Default ratio of the scratch file to the largest workload file.
const SCRATCH_PER_FILE: u64 = 4;

/// The setting of stable writes in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Arm {
    /// `queue/stable_writes` 1.
    On,
    /// `queue/stable_writes` 0.
    Off,
}

/// File system, profile and file size of one cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Case {
    pub(super) fs: Fs,
    pub(super) profile: Profile,
    pub(super) file_size: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// In the order of measurement, grouped by file system.
    pub(super) cases: Vec<Case>,
    /// Pairs of runs for each case.
    pub(super) pairs: u32,
    /// Size of the scratch file in bytes; unused with `--device`.
    pub(super) scratch: u64,
}

impl Plan {
    /// Validates `args` on a machine with pages of `page_size` bytes.
    pub(super) fn new(args: &ExperimentArgs, page_size: u64) -> Result<Self, ExperimentError> {
        if let (Some(device), false) = (&args.device, args.yes) {
            return Err(ExperimentError::NotConfirmed(device.clone()));
        }
        let mut profiles = Vec::new();
        for name in &args.profiles {
            for &file_size in &args.file_sizes {
                // The workload's own validation, before anything is changed.
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
        let room = largest
            .saturating_mul(SCRATCH_PER_FILE)
            .next_multiple_of(page_size.max(1))
            .max(MIN_SCRATCH);
        let plan = Self { cases, pairs: args.pairs, scratch: args.scratch.unwrap_or(room) };
        if args.device.is_none() {
            plan.check_room(plan.scratch)?;
        }
        Ok(plan)
    }

    /// Checks that each file takes at most half of a device of `room` bytes; the rest is for the
    /// file system's metadata.
    pub(super) fn check_room(&self, room: u64) -> Result<(), ExperimentError> {
        match self.cases.iter().find(|case| case.file_size > room / 2) {
            Some(case) => Err(ExperimentError::TooLarge { file_size: case.file_size, room }),
            None => Ok(()),
        }
    }
}

/// The order of the runs of a pair: on, off, then off, on, and so on, so that a drift affects both
/// arms alike.
pub(super) const fn arm_order(pair: u32) -> [Arm; 2] {
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

    fn plan(options: &[&str]) -> Result<Plan, String> {
        let args = Cli::try_parse_from(["experiment"].iter().chain(options)).unwrap().args;
        Plan::new(&args, 4096).map_err(|error| error.to_string())
    }

    #[test]
    fn the_default_is_one_cell_of_five_pairs() {
        let plan = plan(&[]).unwrap();
        let case = Case { fs: Fs::Ext4, profile: Profile::A, file_size: 65_536 };
        assert_eq!(plan, Plan { cases: vec![case], pairs: 5, scratch: MIN_SCRATCH });
    }

    #[test]
    fn each_combination_of_options_is_one_case() {
        let options = ["--fs=xfs", "--fs=ext4", "--profile=all", "--profile=a", "--file-size=64k"];
        let plan = plan(&[&options[..], &["--file-size=64M"]].concat()).unwrap();
        assert_eq!(plan.cases.len(), 2 * 6 * 2);
        assert!(plan.cases[..12].iter().all(|case| case.fs == Fs::Xfs));
        assert_eq!((plan.cases[0].file_size, plan.cases[1].file_size), (65_536, 64 << 20));
    }

    #[test]
    fn the_scratch_file_grows_with_the_files() {
        assert_eq!(plan(&["--file-size=64MiB"]).unwrap().scratch, MIN_SCRATCH);
        assert_eq!(plan(&["--file-size=1GiB"]).unwrap().scratch, 4 << 30);
        assert_eq!(plan(&["--scratch=300MiB"]).unwrap().scratch, 300 << 20);
    }

    #[test]
    fn invalid_options_are_rejected() {
        for (options, expected) in [
            (&["--device=sdz"][..], "--device sdz would be overwritten: add --yes"),
            (&["--scratch=64MiB", "--file-size=64MiB"], "raise --scratch"),
            (&["--threads=0"], "--threads 0"),
            (&["--duration=0"], "--duration is zero"),
        ] {
            let error = plan(options).unwrap_err();
            assert!(error.contains(expected), "{error} lacks {expected}");
        }
    }

    #[test]
    fn each_arm_runs_first_in_every_other_pair() {
        use Arm::{Off, On};

        let all: Vec<_> = (0..4).flat_map(arm_order).collect();
        assert_eq!(all, [On, Off, Off, On, On, Off, Off, On]);
    }
}
