//! The association of stalls with integrity errors.
//!
//! Time is divided into bins of a tenth of a second, or a fiftieth of the window if that is more. A
//! stall belongs to the bin in which it ended. It is around an error if their bins are at most one
//! window apart. Stalls around errors are compared with all other stalls. Independently of that,
//! the errors and the stalled time per bin are correlated at each lag within the window.
//!
//! An error counts for the disk that failed, and for the disks of the files whose pages failed.
//! Only streamed stalls are compared: those of at least `--min-latency`.
//!
//! Memory is bounded by 7 MiB for any input: 32 disks and their total, each with the bins of two
//! windows and the slack with 210 counts a bin, and 4,096 bins of the whole run.

mod latency;
mod rank;
mod series;
mod shifts;

use std::{collections::BTreeMap, time::Duration};

use self::series::Series;
use crate::{
    correlate::disks::{Disk, Disks},
    event::{Association, Event, Latency, Line},
    units::saturating_ns,
};

/// Maximum number of disks that are compared separately.
const MAX_DISKS: usize = 32;

const SHORTEST_BIN_NS: u64 = 100_000_000;

/// Maximum number of bins in a window.
const MAX_BINS_OF_A_WINDOW: u64 = 50;

/// Minimum number of errors for a comparison.
const MIN_ERRORS: u64 = 3;

/// Minimum number of stalls on each side of a comparison.
const MIN_STALLS: u64 = 20;

/// Compares the stalls around integrity errors with the other stalls, by disk and overall.
#[derive(Debug)]
pub(super) struct Associations {
    window_ns: u64,
    bin_ns: u64,
    slack_ns: u64,
    /// First and last bin since the start or the last change of the clock.
    span: Option<(u64, u64)>,
    /// Number of bins before the last change of the clock.
    earlier_bins: u64,
    disks: Disks,
    overall: Series,
    by_disk: BTreeMap<Disk, Series>,
}

impl Associations {
    pub(super) fn new(window: Duration, slack: Duration) -> Self {
        let window_ns = saturating_ns(window);
        let bin_ns = SHORTEST_BIN_NS.max(window_ns.div_ceil(MAX_BINS_OF_A_WINDOW));
        Self {
            window_ns,
            bin_ns,
            slack_ns: saturating_ns(slack),
            span: None,
            earlier_bins: 0,
            disks: Disks::default(),
            overall: Series::new(window_ns.div_ceil(bin_ns)),
            by_disk: BTreeMap::new(),
        }
    }

    /// Takes the next line; only stalls and integrity errors count.
    pub(super) fn observe(&mut self, line: &Line) {
        match &line.event {
            Event::Stall(stall) => {
                let bin = self.bin(line.instant_ns());
                self.overall.add_stall(bin, stall.duration_ns);
                if let Some(series) = self.series(stall.device.as_deref()) {
                    series.add_stall(bin, stall.duration_ns);
                }
            }
            Event::Integrity(error) => {
                let bin = self.bin(line.instant_ns());
                self.overall.add_error(bin);
                let of_pages = error.pages.iter().map(|page| &page.device);
                let named = std::iter::once(&error.device).chain(of_pages).flatten();
                let mut disks: Vec<_> = named.filter_map(|name| self.disks.resolve(name)).collect();
                disks.sort_unstable();
                disks.dedup();
                for disk in disks {
                    if let Some(series) = self.series_of(disk) {
                        series.add_error(bin);
                    }
                }
            }
            _ => {}
        }
    }

    /// The associations of all disks together, then of each disk with errors, by name. Empty
    /// without errors.
    pub(super) fn result(&self) -> Vec<Association> {
        let bins = self.earlier_bins + self.span.map_or(0, |(first, last)| last - first + 1);
        let mut disks: Vec<_> = self
            .by_disk
            .iter()
            .filter_map(|(disk, series)| Some((self.disks.name(*disk)?, series)))
            .collect();
        disks.sort_unstable_by_key(|(name, _)| *name);
        std::iter::once((None, &self.overall))
            .chain(disks.into_iter().map(|(name, series)| (Some(name), series)))
            .filter(|(_, series)| series.errors > 0)
            .map(|(name, series)| self.associate(name, series.clone(), bins))
            .collect()
    }

    fn associate(&self, device: Option<&str>, mut series: Series, bins: u64) -> Association {
        series.count_to(u64::MAX);
        let (around, elsewhere) = (series.around.latency(), series.elsewhere.latency());
        let mut association = Association {
            device: device.map(str::to_owned),
            window_ns: self.window_ns,
            integrity_errors: series.errors,
            around,
            elsewhere,
            too_few_reason: too_few(series.errors, &around, &elsewhere),
            ..Association::default()
        };
        association.too_few = association.too_few_reason.is_some();
        if association.too_few {
            return association;
        }
        association.p50_ratio = ratio(around.p50_ns, elsewhere.p50_ns);
        association.p99_ratio = ratio(around.p99_ns, elsewhere.p99_ns);
        association.longer_probability =
            rank::longer_probability(series.around.counts(), series.elsewhere.counts())
                .map(significant);
        association.p_value = series.p_value().map(significant);
        if let Some((lag, correlation)) = series.peak(bins) {
            let bin_ns = i64::try_from(self.bin_ns).unwrap_or(i64::MAX);
            association.peak_lag_ns = Some(lag.saturating_mul(bin_ns));
            association.peak_correlation = Some(significant(correlation));
        }
        association
    }

    /// The bin of a time. Counts the bins that are complete by then.
    fn bin(&mut self, time_ns: u64) -> u64 {
        let bin = time_ns / self.bin_ns;
        let reach = self.window_ns.div_ceil(self.bin_ns);
        let late = self.slack_ns.div_ceil(self.bin_ns) + 1;
        let Some((first, last)) = self.span else {
            self.span = Some((bin, bin));
            return bin;
        };
        if bin.saturating_add(late + 2 * reach) < last {
            self.earlier_bins += last - first + 1;
            self.span = Some((bin, bin));
            self.overall.restart();
            self.by_disk.values_mut().for_each(Series::restart);
            return bin;
        }
        self.span = Some((first.min(bin), last.max(bin)));
        if bin > last {
            let end = bin.saturating_sub(late + reach);
            self.overall.count_to(end);
            self.by_disk.values_mut().for_each(|series| series.count_to(end));
        }
        bin
    }

    fn series(&mut self, device: Option<&str>) -> Option<&mut Series> {
        let disk = self.disks.resolve(device?)?;
        self.series_of(disk)
    }

    fn series_of(&mut self, disk: Disk) -> Option<&mut Series> {
        if !self.by_disk.contains_key(&disk) && self.by_disk.len() >= MAX_DISKS {
            return None;
        }
        let reach = self.window_ns.div_ceil(self.bin_ns);
        Some(self.by_disk.entry(disk).or_insert_with(|| Series::new(reach)))
    }
}

/// Which number is too small for a comparison.
fn too_few(errors: u64, around: &Latency, elsewhere: &Latency) -> Option<String> {
    let sides = [("around errors", around.stalls), ("elsewhere", elsewhere.stalls)];
    if errors < MIN_ERRORS {
        return Some(format!("integrity errors: {errors}, and {MIN_ERRORS} are needed"));
    }
    let (side, stalls) = sides.into_iter().find(|(_, stalls)| *stalls < MIN_STALLS)?;
    Some(format!("streamed stalls {side}: {stalls}, and {MIN_STALLS} are needed"))
}

#[expect(clippy::cast_precision_loss, reason = "a ratio needs no more than 53 bits")]
fn ratio(one: u64, other: u64) -> Option<f64> {
    (other > 0).then(|| significant(one as f64 / other as f64))
}

/// Rounds to six significant digits: the text form is then exact, and shows no false precision.
fn significant(value: f64) -> f64 {
    format!("{value:.5e}").parse().unwrap_or(value)
}

#[cfg(test)]
mod tests;
