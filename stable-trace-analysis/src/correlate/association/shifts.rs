//! A test of whether stalls around errors are longer that holds for stalls and errors that come in bursts.
//!
//! Stalls follow on stalls and errors on errors, so a test that takes each of them for an independent
//! observation finds an association anywhere. Here the errors as a whole are moved along the run, around its
//! end, by each number of bins. Each move keeps the bursts of both, and only takes away what ties one to the
//! other. The p-value is the share of moves after which the stalls around errors differ from the others
//! at least as much as they really do. See Politis and Romano, "The stationary bootstrap" (1994), for why
//! blocks must stay whole, and Harris, "A shift test for independence in generic time series" (2020).

/// Bins that are kept. Neighbours become one when there are more, so that memory is bounded.
const MAX_BINS: usize = 4096;

/// Fewest bins for which there is a p-value.
const MIN_BINS: usize = 40;

/// What happened in a bin.
#[derive(Clone, Copy, Debug, Default)]
struct Bin {
    errors: u32,
    stalls: u32,
    /// Sum of the stalls' scores.
    scores: u64,
}

impl Bin {
    fn merge(&mut self, other: Self) {
        self.errors = self.errors.saturating_add(other.errors);
        self.stalls = self.stalls.saturating_add(other.stalls);
        self.scores = self.scores.saturating_add(other.scores);
    }
}

/// The errors and stalls of a whole run.
#[derive(Clone, Debug)]
pub(super) struct Run {
    bins: Vec<Bin>,
    /// Number of bins of the series that one bin here stands for.
    width: u64,
    /// The bin of the series that comes first, since the last change of the clock.
    first: Option<u64>,
    /// Bins of the series before that change.
    before: u64,
}

impl Run {
    pub(super) const fn new() -> Self {
        Self { bins: Vec::new(), width: 1, first: None, before: 0 }
    }

    /// Adds a bin of the series. Bins come in order.
    pub(super) fn add(&mut self, at: u64, errors: u64, stalls: u64, scores: u64) {
        let first = *self.first.get_or_insert(at);
        let offset = self.before.saturating_add(at.saturating_sub(first));
        while offset / self.width >= MAX_BINS as u64 {
            self.halve();
        }
        let Ok(index) = usize::try_from(offset / self.width) else { return };
        if index >= self.bins.len() {
            self.bins.resize(index + 1, Bin::default());
        }
        let count = |number| u32::try_from(number).unwrap_or(u32::MAX);
        if let Some(bin) = self.bins.get_mut(index) {
            bin.merge(Bin { errors: count(errors), stalls: count(stalls), scores });
        }
    }

    /// The bins that follow come after those so far, whatever their numbers.
    pub(super) fn restart(&mut self) {
        self.before = self.width.saturating_mul(self.bins.len() as u64);
        self.first = None;
    }

    /// Makes one bin of two.
    fn halve(&mut self) {
        let pairs = self.bins.chunks(2).map(|pair| {
            let mut sum = Bin::default();
            for bin in pair {
                sum.merge(*bin);
            }
            sum
        });
        self.bins = pairs.collect();
        self.width = self.width.saturating_mul(2);
    }

    /// The two-sided p-value of the difference between stalls within `reach` bins of an error and the others.
    /// `None` if the run is too short, or all stalls are on one side.
    #[expect(clippy::cast_precision_loss, reason = "a share of at most 4,096")]
    pub(super) fn p_value(&self, reach: u64) -> Option<f64> {
        let count = self.bins.len();
        if count < MIN_BINS {
            return None;
        }
        let reach = usize::try_from(reach.div_ceil(self.width)).ok()?;
        let spans = self.around(reach);
        let sums = self.sums();
        let differences: Vec<_> =
            (0..count).map(|shift| difference(&sums, &spans, shift)).collect();
        // Moves by up to a fifth of the window count as none: the smallest difference is the real one. Without it
        // the test would be exact, and one in two samples of unrelated bursts above 5 %.
        let same_place = reach.div_ceil(5).clamp(1, count / 2);
        let near = (0..=same_place).chain(count - same_place..count);
        let real = near.filter_map(|shift| differences[shift]).reduce(f64::min)?;
        // A move after which there is nothing to compare does not speak against chance.
        let as_large = differences.iter().filter(|moved| moved.is_none_or(|moved| moved >= real));
        let as_large = as_large.count();
        Some((as_large as f64 / count as f64).min(1.0))
    }

    /// The bins that have an error within `reach` bins, as spans `[from, to)`.
    fn around(&self, reach: usize) -> Vec<(usize, usize)> {
        let mut spans: Vec<(usize, usize)> = Vec::new();
        for (at, _) in self.bins.iter().enumerate().filter(|(_, bin)| bin.errors > 0) {
            let (from, to) = (at.saturating_sub(reach), (at + reach + 1).min(self.bins.len()));
            match spans.last_mut() {
                Some(last) if last.1 >= from => last.1 = to,
                _ => spans.push((from, to)),
            }
        }
        spans
    }

    /// Stalls and scores before each bin of the run and of its repetition.
    fn sums(&self) -> Vec<(u64, u64)> {
        let twice = self.bins.iter().chain(&self.bins);
        let mut sum = (0_u64, 0_u64);
        let mut sums = vec![sum];
        sums.extend(twice.map(|bin| {
            sum.0 += u64::from(bin.stalls);
            sum.1 = sum.1.saturating_add(bin.scores);
            sum
        }));
        sums
    }
}

/// How much the mean score of the stalls in the moved spans differs from that of the others. `None` if all
/// stalls are on one side.
#[expect(clippy::cast_precision_loss, reason = "a mean needs no more than 53 bits")]
fn difference(sums: &[(u64, u64)], spans: &[(usize, usize)], shift: usize) -> Option<f64> {
    let total = sums.get(sums.len() / 2)?;
    let mut around = (0, 0);
    for (from, to) in spans {
        let (from, to) = (sums.get(from + shift)?, sums.get(to + shift)?);
        around.0 += to.0 - from.0;
        around.1 += to.1 - from.1;
    }
    let elsewhere = (total.0 - around.0, total.1.saturating_sub(around.1));
    if around.0 == 0 || elsewhere.0 == 0 {
        return None;
    }
    let mean = |(stalls, scores): (u64, u64)| scores as f64 / stalls as f64;
    Some((mean(around) - mean(elsewhere)).abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A generator of numbers in `[0, 1)`: xorshift64* (Vigna, 2016).
    struct Random(u64);

    impl Random {
        #[expect(clippy::cast_precision_loss, reason = "53 bits")]
        fn next(&mut self) -> f64 {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1_u64 << 53) as f64
        }
    }

    const REACH: u64 = 50;

    /// Two states that last `mean` bins each on average.
    fn bursts(random: &mut Random, bins: usize, mean: f64) -> Vec<bool> {
        let mut busy = random.next() < 0.5;
        let mut next = || {
            if random.next() < 1.0 / mean {
                busy = !busy;
            }
            busy
        };
        (0..bins).map(|_| next()).collect()
    }

    /// A run of which stalls and errors come in bursts that have nothing to do with each other.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small")]
    fn unrelated(random: &mut Random, bins: usize, of_stalls: f64, of_errors: f64) -> Run {
        let slow = bursts(random, bins, of_stalls);
        let failing = bursts(random, bins, of_errors);
        let mut run = Run::new();
        for (at, (slow, failing)) in (0..).zip(slow.into_iter().zip(failing)) {
            let stalls = if slow { 20 } else { 2 + (random.next() * 3.0) as u64 };
            let score = if slow { 100.0 } else { 40.0 } + random.next() * 10.0;
            let error = failing && random.next() < 0.02;
            run.add(at, u64::from(error), stalls, stalls * score as u64);
        }
        run
    }

    /// Unrelated pairs have a p-value below 0.05 in at most one of twenty cases.
    #[test]
    fn bursts_alone_are_no_association() {
        for (bins, of_stalls, of_errors) in [
            (600, 10.0, 60.0),
            (3_000, 50.0, 50.0),
            (6_000, 300.0, 200.0),
            (20_000, 100.0, 1_000.0),
        ] {
            let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ bins as u64);
            let (mut all, mut small) = (0_u32, 0_u32);
            while all < 1_000 {
                let run = unrelated(&mut random, bins, of_stalls, of_errors);
                let Some(p) = run.p_value(REACH) else { continue };
                assert!((0.0..=1.0).contains(&p), "{p}");
                all += 1;
                small += u32::from(p < 0.05);
            }
            println!("{bins} bins, bursts of {of_stalls} and {of_errors}: {small} of {all}");
            assert!(small * 20 <= all, "{bins} bins: {small} of {all}");
        }
    }

    /// Stalls that are four times as long in the second after an error.
    #[test]
    fn an_association_is_found_among_bursts() {
        let mut random = Random(77);
        let mut found = 0;
        for _ in 0..100 {
            let slow = bursts(&mut random, 6_000, 30.0);
            let mut run = Run::new();
            let mut last_error = 0;
            for (at, slow) in (1_u64..).zip(slow) {
                let error = random.next() < 0.002;
                if error {
                    last_error = at;
                }
                let after = last_error > 0 && at - last_error < 30;
                let score = if slow { 48 } else { 40 } + if after { 16 } else { 0 };
                run.add(at, error.into(), 5, 5 * score);
            }
            found += u32::from(run.p_value(REACH).is_some_and(|p| p < 0.05));
        }
        assert!(found >= 90, "{found} of 100");
    }

    #[test]
    fn a_run_is_kept_in_bounded_memory() {
        let mut run = Run::new();
        for at in 0..1_000_000 {
            run.add(at, u64::from(at % 5_000 == 0), 1, at % 7);
        }
        run.restart();
        run.add(3, 0, 1, 1);
        assert!(run.bins.len() <= MAX_BINS, "{}", run.bins.len());
        let stalls: u64 = run.bins.iter().map(|bin| u64::from(bin.stalls)).sum();
        let errors: u32 = run.bins.iter().map(|bin| bin.errors).sum();
        assert_eq!((stalls, errors), (1_000_001, 200));
    }

    #[test]
    fn what_cannot_be_compared_has_no_p_value() {
        let mut run = Run::new();
        assert_eq!(run.p_value(REACH), None);
        for at in 0..100 {
            run.add(at, 1, 1, 1);
        }
        assert_eq!(run.p_value(REACH), None, "all stalls are around an error");
    }
}
