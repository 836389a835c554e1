//! One line of the result: the cost of stable pages for one workload on one file system. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use stable_trace_analysis::statistics::{
    paired::{Ratio, geometric_mean, ratio},
    quantile::quantile_ns,
};
use stable_trace_common::histogram::Histogram;

use super::{
    plan::{Arm, Case},
    run::Run,
};

/// The measurements of one file system, profile and file size. A value that could not be measured
/// is absent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "cell")]
pub struct Cell {
    /// Type of the file system.
    pub fs: String,
    /// `a` to `g`.
    pub profile: String,
    /// Bytes of the file.
    pub file_size: u64,
    /// Number of workers.
    pub threads: u32,
    /// Number of pairs of runs; with one arm, the number of its runs.
    pub pairs: u32,
    /// Operations a second with stable writes on: the geometric mean over the runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ops_on: Option<f64>,
    /// Operations a second with stable writes off: the geometric mean over the runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ops_off: Option<f64>,
    /// `ops_on / ops_off`, which is also the geometric mean of the pairs' ratios.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    /// The 95 % confidence interval of `ratio`: Student's t over the logarithms of the pairs'
    /// ratios.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ci95: Option<[f64; 2]>,
    /// Whether the interval includes 1: then the runs show no difference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ci95_includes_1: Option<bool>,
    /// Waits for a stable page (`write_begin`, `page_mkwrite`) on the device, with stable writes
    /// on.
    pub stalls: u64,
    /// 99th percentile of these waits in ns, interpolated within a power-of-two bucket.
    pub stall_p99_ns: u64,
    /// Such waits with stable writes off; 0 where the setting takes effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stalls_off: Option<u64>,
    /// Failed checks of protection information in all runs, on the device or one below it. Absent
    /// if no probe for them is attached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub integrity_errors: Option<u64>,
    /// Integrity errors with stable writes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub integrity_errors_on: Option<u64>,
    /// Integrity errors with stable writes off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub integrity_errors_off: Option<u64>,
    /// Failed calls of the workload by errno name, in all runs.
    pub errors: BTreeMap<String, u64>,
    /// Operations a second of each run with stable writes on, in the order of the pairs.
    pub runs_on: Vec<f64>,
    /// The same with stable writes off.
    pub runs_off: Vec<f64>,
    /// Why there is only one arm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// The runs of one case, in the order of the pairs.
#[derive(Clone, Debug, Default)]
pub(super) struct Runs {
    on: Vec<Run>,
    off: Vec<Run>,
}

impl Runs {
    pub(super) fn push(&mut self, arm: Arm, run: Run) {
        match arm {
            Arm::On => self.on.push(run),
            Arm::Off => self.off.push(run),
        }
    }

    /// Sums up the runs. `integrity_traced` is whether a probe for integrity errors is attached.
    pub(super) fn into_cell(
        self,
        case: Case,
        threads: u32,
        integrity_traced: bool,
        note: Option<String>,
    ) -> Cell {
        let Self { on, off } = self;
        let (rates_on, rates_off) = (rates(&on), rates(&off));
        let pairs: Vec<_> = rates_on.iter().copied().zip(rates_off.iter().copied()).collect();
        let ratio = ratio(&pairs);
        let interval = ratio.and_then(|Ratio { ci95, .. }| ci95);
        let stalls_on = stalls(&on);
        let stalls_off = stalls(&off);
        // With only one arm, its stalls.
        let stalls = if on.is_empty() { stalls_off } else { stalls_on };
        let integrity_errors = |runs: &[Run]| {
            (integrity_traced && !runs.is_empty())
                .then(|| runs.iter().map(|run| run.integrity_errors).sum())
        };
        let (errors_on, errors_off): (Option<u64>, Option<u64>) =
            (integrity_errors(&on), integrity_errors(&off));
        let mut errors = BTreeMap::new();
        for (name, count) in on.iter().chain(&off).flat_map(|run| &run.errors) {
            *errors.entry(name.clone()).or_default() += count;
        }
        Cell {
            fs: case.fs.name().to_owned(),
            profile: case.profile.name().to_owned(),
            file_size: case.file_size,
            threads,
            pairs: u32::try_from(on.len().max(off.len())).unwrap_or(u32::MAX),
            ops_on: geometric_mean(&rates_on),
            ops_off: geometric_mean(&rates_off),
            ratio: ratio.map(|ratio| ratio.mean),
            ci95: interval.map(|(low, high)| [low, high]),
            ci95_includes_1: interval.map(|(low, high)| low <= 1.0 && 1.0 <= high),
            stalls: stalls.count(),
            stall_p99_ns: quantile_ns(&stalls.buckets, stalls.max_ns, 0.99),
            stalls_off: (!off.is_empty()).then(|| stalls_off.count()),
            integrity_errors: integrity_traced
                .then(|| errors_on.unwrap_or(0) + errors_off.unwrap_or(0)),
            integrity_errors_on: errors_on,
            integrity_errors_off: errors_off,
            errors,
            runs_on: rates_on,
            runs_off: rates_off,
            note,
        }
    }
}

fn rates(runs: &[Run]) -> Vec<f64> {
    runs.iter().map(|run| run.operations_per_second).collect()
}

fn stalls(runs: &[Run]) -> Histogram {
    let mut sum = Histogram::EMPTY;
    for run in runs {
        sum.merge(&run.stalls);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{experiment::args::Fs, workload::Profile};

    const CASE: Case = Case { fs: Fs::Ext4, profile: Profile::A, file_size: 65_536 };

    fn run(rate: f64, durations: &[u64], integrity_errors: u64) -> Run {
        let mut stalls = Histogram::EMPTY;
        for duration in durations {
            stalls.record(*duration);
        }
        let errors = BTreeMap::from([("EILSEQ".to_owned(), integrity_errors)]);
        Run { operations_per_second: rate, errors, stalls, integrity_errors }
    }

    #[test]
    fn both_arms_give_a_ratio() {
        let mut runs = Runs::default();
        for (on, off) in [(80.0, 100.0), (90.0, 110.0), (70.0, 90.0)] {
            runs.push(Arm::On, run(on, &[3_000_000], 0));
            runs.push(Arm::Off, run(off, &[], 7));
        }
        let cell = runs.into_cell(CASE, 64, true, None);
        let (on, off) = (cell.ops_on.unwrap(), cell.ops_off.unwrap());
        assert!((cell.ratio.unwrap() - on / off).abs() < 1e-12);
        let [low, high] = cell.ci95.unwrap();
        assert!(low < on / off && on / off < high && high < 1.0, "{low} to {high}");
        assert_eq!(cell.ci95_includes_1, Some(false));
        assert_eq!((cell.pairs, cell.stalls, cell.stalls_off), (3, 3, Some(0)));
        assert!((2_000_000..=3_000_000).contains(&cell.stall_p99_ns), "{}", cell.stall_p99_ns);
        assert_eq!(cell.integrity_errors, Some(21));
        assert_eq!((cell.integrity_errors_on, cell.integrity_errors_off), (Some(0), Some(21)));
        assert_eq!(cell.errors["EILSEQ"], 21);
    }

    #[test]
    fn one_arm_gives_a_note_and_no_ratio() {
        let mut runs = Runs::default();
        runs.push(Arm::On, run(80.0, &[3_000_000], 0));
        runs.push(Arm::On, run(80.0, &[], 0));
        let cell = runs.into_cell(CASE, 64, false, Some("because".to_owned()));
        assert_eq!((cell.pairs, cell.stalls, cell.stalls_off), (2, 1, None));
        let json = serde_json::to_value(&cell).unwrap();
        assert_eq!(json["type"], "cell");
        assert_eq!(json["note"], "because");
        for absent in ["ratio", "ci95", "ops_off", "integrity_errors"] {
            assert!(json.get(absent).is_none(), "{json}");
        }
        assert_eq!(serde_json::from_value::<Cell>(json).unwrap(), cell);
    }
}
