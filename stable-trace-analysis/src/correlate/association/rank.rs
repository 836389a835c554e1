//! The Mann-Whitney U test: whether the durations of one sample are longer than of another.

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct RankTest {
    /// Probability that a value of the first sample is greater than a value of the second, a tie
    /// counting half.
    pub(super) longer_probability: f64,
    /// Two-sided p-value, by the normal approximation corrected for ties and continuity.
    pub(super) p_value: f64,
}

/// Compares two samples, given as counts in the same buckets in ascending order. The values of one
/// bucket are tied. `None` if a sample is empty.
#[expect(clippy::cast_precision_loss, reason = "an approximation needs no more than 53 bits")]
pub(super) fn compare(first: &[u64], second: &[u64]) -> Option<RankTest> {
    let (n1, n2) = (first.iter().sum::<u64>() as f64, second.iter().sum::<u64>() as f64);
    if n1 == 0.0 || n2 == 0.0 {
        return None;
    }
    let (mut u, mut ties, mut below) = (0.0, 0.0, 0.0);
    for (one, two) in first.iter().zip(second) {
        let (one, two) = (*one as f64, *two as f64);
        u += one * (below + two / 2.0);
        below += two;
        let bucket = one + two;
        ties += bucket * bucket * bucket - bucket;
    }
    let pairs = n1 * n2;
    let n = n1 + n2;
    let variance = pairs / 12.0 * (n + 1.0 - ties / (n * (n - 1.0)));
    let deviation = ((u - pairs / 2.0).abs() - 0.5).max(0.0);
    // The variance is zero if all values are tied.
    let p_value =
        if variance > 0.0 { libm::erfc(deviation / (2.0 * variance).sqrt()).min(1.0) } else { 1.0 };
    Some(RankTest { longer_probability: u / pairs, p_value })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::cast_precision_loss, reason = "small numbers")]

    use proptest::prelude::*;

    use super::*;

    /// Counts with one bucket for each value.
    fn counted(values: &[u32], size: u32) -> Vec<u64> {
        (0..size)
            .map(|value| values.iter().filter(|other| **other == value).count() as u64)
            .collect()
    }

    fn test(first: &[u32], second: &[u32]) -> RankTest {
        let size = first.iter().chain(second).max().unwrap() + 1;
        compare(&counted(first, size), &counted(second, size)).unwrap()
    }

    /// The example in the scipy documentation of `mannwhitneyu`: U = 17, and with
    /// `method="asymptotic"` p = 0.11134688653314041.
    #[test]
    fn a_published_example_without_ties() {
        let found = test(&[19, 22, 16, 29, 24], &[20, 11, 17, 12]);
        assert!((found.longer_probability - 17.0 / 20.0).abs() < 1e-12, "{found:?}");
        assert!((found.p_value - 0.111_346_886_533_140_41).abs() < 1e-12, "{found:?}");
    }

    #[test]
    fn an_empty_sample_and_tied_samples() {
        assert_eq!(compare(&[0, 0], &[1, 2]), None);
        let tied = compare(&[4], &[9]).unwrap();
        assert_eq!(tied, RankTest { longer_probability: 0.5, p_value: 1.0 });
    }

    proptest! {
        /// Compares with a loop over all pairs.
        #[test]
        fn the_probability_is_the_share_of_pairs(
            first in proptest::collection::vec(0_u32..12, 1..40),
            second in proptest::collection::vec(0_u32..12, 1..40),
        ) {
            let longer: f64 = first
                .iter()
                .flat_map(|one| second.iter().map(move |two| match one.cmp(two) {
                    std::cmp::Ordering::Greater => 1.0,
                    std::cmp::Ordering::Equal => 0.5,
                    std::cmp::Ordering::Less => 0.0,
                }))
                .sum();
            let pairs = (first.len() * second.len()) as f64;
            let found = test(&first, &second);
            prop_assert!((found.longer_probability - longer / pairs).abs() < 1e-9);
            let reverse = test(&second, &first);
            prop_assert!((found.p_value - reverse.p_value).abs() < 1e-9, "two-sided");
            prop_assert!((0.0..=1.0).contains(&found.p_value));
        }
    }

    /// Compares with the definition of the p-value: of all ways to split the values into two samples
    /// of these sizes, the share that deviates at least as much as the given samples.
    #[test]
    fn the_p_value_is_near_that_of_the_exact_permutation_test() {
        let first = [3, 5, 5, 7, 9, 9, 12, 13];
        let second = [1, 2, 3, 4, 5, 6, 7, 9];
        let all: Vec<u32> = first.iter().chain(&second).copied().collect();
        let deviation =
            |one: &[u32], other: &[u32]| (test(one, other).longer_probability - 0.5).abs();
        let given = deviation(&first, &second);
        let (mut splits, mut extreme) = (0_u32, 0_u32);
        for mask in 0_u32..1 << all.len() {
            if mask.count_ones() as usize != first.len() {
                continue;
            }
            let (one, other): (Vec<_>, Vec<_>) =
                (0..all.len()).partition(|index| mask >> index & 1 == 1);
            let values =
                |indices: &[usize]| indices.iter().map(|index| all[*index]).collect::<Vec<_>>();
            splits += 1;
            extreme += u32::from(deviation(&values(&one), &values(&other)) >= given - 1e-9);
        }
        let exact = f64::from(extreme) / f64::from(splits);
        let found = test(&first, &second).p_value;
        assert!((found - exact).abs() < 0.01, "{found} for {exact}");
    }
}
