//! The errors and stalls of one disk over time, in bins that are dropped once they are counted.

use std::collections::BTreeMap;

use super::{
    latency::{BUCKETS, Durations, bucket},
    shifts::Run,
};

#[derive(Clone, Debug, Default)]
struct Bin {
    errors: u64,
    stalled_ns: u64,
    /// Number of stalls by histogram bucket; empty without stalls.
    stalls: Vec<u32>,
    /// Longest stall.
    max_ns: u64,
}

/// Sums for the cross-correlation of errors and stalled time.
#[derive(Clone, Debug)]
struct Lags {
    /// For each lag from `-reach` to `reach`: the sum over all bins of errors times stalled time.
    products: Vec<f64>,
    errors: f64,
    errors_squared: f64,
    stalled: f64,
    stalled_squared: f64,
}

/// The bins of one disk, or of all disks together.
#[derive(Clone, Debug)]
pub(super) struct Series {
    /// Window in bins: the range around an error, and the longest lag.
    reach: u64,
    bins: BTreeMap<u64, Bin>,
    /// All bins before this one are counted.
    counted_to: u64,
    lags: Lags,
    pub(super) errors: u64,
    pub(super) around: Durations,
    pub(super) elsewhere: Durations,
    /// The whole run, for the p-value.
    run: Run,
}

impl Series {
    pub(super) fn new(reach: u64) -> Self {
        let products = vec![0.0; usize::try_from(reach).unwrap_or(0) * 2 + 1];
        Self {
            reach,
            bins: BTreeMap::new(),
            counted_to: 0,
            lags: Lags {
                products,
                errors: 0.0,
                errors_squared: 0.0,
                stalled: 0.0,
                stalled_squared: 0.0,
            },
            errors: 0,
            around: Durations::default(),
            elsewhere: Durations::default(),
            run: Run::new(),
        }
    }

    /// Adds an error. If its bin is already counted, it goes to the next bin that is not.
    pub(super) fn add_error(&mut self, bin: u64) {
        self.errors += 1;
        self.bin(bin).errors += 1;
    }

    /// Adds a stall to the bin in which it ended.
    pub(super) fn add_stall(&mut self, bin: u64, duration_ns: u64) {
        let bin = self.bin(bin);
        bin.stalled_ns = bin.stalled_ns.saturating_add(duration_ns);
        bin.max_ns = bin.max_ns.max(duration_ns);
        if bin.stalls.is_empty() {
            bin.stalls = vec![0; BUCKETS];
        }
        if let Some(count) = bin.stalls.get_mut(bucket(duration_ns)) {
            *count = count.saturating_add(1);
        }
    }

    fn bin(&mut self, bin: u64) -> &mut Bin {
        self.bins.entry(bin.max(self.counted_to)).or_default()
    }

    /// Counts the bins before `end`. All bins up to `end + reach` must be complete.
    pub(super) fn count_to(&mut self, end: u64) {
        let due: Vec<u64> = self.bins.range(self.counted_to..end).map(|(bin, _)| *bin).collect();
        for at in due {
            self.count(at);
        }
        self.counted_to = self.counted_to.max(end);
        let reach = self.reach;
        let first_needed = self.counted_to.saturating_sub(reach);
        while self.bins.first_key_value().is_some_and(|(bin, _)| *bin < first_needed) {
            self.bins.pop_first();
        }
    }

    /// Counts and drops all bins after a change of the clock.
    pub(super) fn restart(&mut self) {
        self.count_to(u64::MAX);
        self.bins.clear();
        self.counted_to = 0;
        self.run.restart();
    }

    #[expect(clippy::cast_precision_loss, reason = "a correlation needs no more than 53 bits")]
    fn count(&mut self, at: u64) {
        let span = at.saturating_sub(self.reach)..=at.saturating_add(self.reach);
        let near = self.bins.range(span).any(|(_, bin)| bin.errors > 0);
        let Some(bin) = self.bins.get(&at) else { return };
        let side = if near { &mut self.around } else { &mut self.elsewhere };
        let (mut stalls, mut scores) = (0, 0);
        for (bucket, count) in bin.stalls.iter().enumerate() {
            side.add(bucket, u64::from(*count), bin.max_ns);
            stalls += u64::from(*count);
            // Buckets are logarithmic: one long stall does not outweigh all others.
            scores += u64::from(*count) * bucket as u64;
        }
        self.run.add(at, bin.errors, stalls, scores);
        let lags = &mut self.lags;
        let (errors, stalled) = (bin.errors as f64, bin.stalled_ns as f64);
        lags.errors += errors;
        lags.errors_squared += errors * errors;
        lags.stalled += stalled;
        lags.stalled_squared += stalled * stalled;
        for (other, before) in self.bins.range(at.saturating_sub(self.reach)..=at) {
            let (Ok(lag), Ok(zero)) = (usize::try_from(at - other), usize::try_from(self.reach))
            else {
                continue;
            };
            if let Some(product) = lags.products.get_mut(zero + lag) {
                *product += before.errors as f64 * stalled;
            }
            if lag > 0
                && let Some(product) = lags.products.get_mut(zero - lag)
            {
                *product += errors * before.stalled_ns as f64;
            }
        }
        if let Some(bin) = self.bins.get_mut(&at) {
            // Later bins still need its errors and its stalled time, but not its stalls.
            bin.stalls = Vec::new();
        }
    }

    /// The lag in bins at which errors and stalled time correlate most over `bins` bins, and the
    /// correlation coefficient. `None` if one of them is constant. The lag is positive if stalls
    /// end after errors.
    #[expect(clippy::cast_precision_loss, reason = "a correlation needs no more than 53 bits")]
    pub(super) fn peak(&self, bins: u64) -> Option<(i64, f64)> {
        let n = bins as f64;
        let lags = &self.lags;
        let (mean_errors, mean_stalled) = (lags.errors / n, lags.stalled / n);
        let deviation = |squared: f64, mean: f64| (squared / n - mean * mean).max(0.0).sqrt();
        let scale = deviation(lags.errors_squared, mean_errors)
            * deviation(lags.stalled_squared, mean_stalled);
        if scale.is_nan() || scale <= 0.0 {
            return None;
        }
        let reach = i64::try_from(self.reach).ok()?;
        let correlations = lags
            .products
            .iter()
            .zip(-reach..)
            .map(|(product, lag)| (lag, (product / n - mean_errors * mean_stalled) / scale));
        // Among equal correlations the shortest lag wins.
        correlations.reduce(|best, next| {
            let nearer = next.0.abs() < best.0.abs();
            if next.1 > best.1 || (next.1 >= best.1 && nearer) { next } else { best }
        })
    }

    /// The p-value of the difference between stalls around errors and the others.
    pub(super) fn p_value(&self) -> Option<f64> {
        self.run.p_value(self.reach)
    }

    #[cfg(test)]
    pub(super) fn bin_count(&self) -> usize {
        self.bins.len()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::cast_precision_loss, reason = "small numbers")]

    use proptest::prelude::*;

    use super::*;

    /// Pearson's correlation coefficient by its definition, of the errors with the stalled time
    /// `lag` bins later; both are zero outside the run.
    fn by_definition(errors: &[u64], stalled: &[u64], lag: i64) -> f64 {
        let n = errors.len() as f64;
        let mean = |values: &[u64]| values.iter().sum::<u64>() as f64 / n;
        let (x, y) = (mean(errors), mean(stalled));
        let deviation = |values: &[u64], mean: f64| {
            (values.iter().map(|value| (*value as f64 - mean).powi(2)).sum::<f64>() / n).sqrt()
        };
        let mut sum = 0.0;
        for (at, count) in (0_i64..).zip(errors) {
            let later = at + lag;
            if let Ok(later) = usize::try_from(later)
                && let Some(ns) = stalled.get(later)
            {
                sum += *count as f64 * *ns as f64;
            }
        }
        (sum / n - x * y) / (deviation(errors, x) * deviation(stalled, y))
    }

    proptest! {
        #[test]
        fn the_peak_is_that_of_the_definition(
            run in proptest::collection::vec((0_u64..3, 0_u64..9), 12..60),
            reach in 1_u64..6,
        ) {
            let (errors, stalled): (Vec<_>, Vec<_>) = run.into_iter().unzip();
            let mut series = Series::new(reach);
            for (at, (count, ns)) in (0..).zip(errors.iter().zip(&stalled)) {
                for _ in 0..*count {
                    series.add_error(at);
                }
                if *ns > 0 {
                    series.add_stall(at, *ns);
                }
                series.count_to((at + 1).saturating_sub(reach));
                prop_assert!(series.bin_count() as u64 <= 2 * reach + 1, "{}", series.bin_count());
            }
            series.count_to(errors.len() as u64);
            let distinct = |values: &[u64]| values.iter().any(|value| *value != values[0]);
            let found = series.peak(errors.len() as u64);
            if !distinct(&errors) || !distinct(&stalled) {
                prop_assert_eq!(found, None);
            } else {
                let (lag, correlation) = found.unwrap();
                prop_assert!((by_definition(&errors, &stalled, lag) - correlation).abs() < 1e-9);
                let reach = reach.cast_signed();
                for other in -reach..=reach {
                    prop_assert!(by_definition(&errors, &stalled, other) <= correlation + 1e-9);
                }
            }
        }

        /// Compares with a search for an error near each stall.
        #[test]
        fn a_stall_is_around_an_error_within_reach(
            errors in proptest::collection::btree_set(0_u64..200, 0..6),
            stalls in proptest::collection::vec(0_u64..200, 0..60),
            reach in 1_u64..20,
        ) {
            let mut series = Series::new(reach);
            for bin in 0..200 {
                if errors.contains(&bin) {
                    series.add_error(bin);
                }
                for _ in stalls.iter().filter(|at| **at == bin) {
                    series.add_stall(bin, 1_000_000);
                }
                series.count_to(bin.saturating_sub(reach));
            }
            series.count_to(u64::MAX);
            let near = |at: &&u64| errors.iter().any(|error| error.abs_diff(**at) <= reach);
            let around = stalls.iter().filter(near).count() as u64;
            prop_assert_eq!(series.around.latency().stalls, around);
            prop_assert_eq!(series.elsewhere.latency().stalls, stalls.len() as u64 - around);
        }
    }
}
