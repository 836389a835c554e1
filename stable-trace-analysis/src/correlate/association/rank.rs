//! How often a value of one sample is greater than one of another.

/// Probability that a value of the first sample is greater than a value of the second, a tie counting half: the
/// Mann-Whitney U divided by the number of pairs. The samples are given as counts in the same buckets in
/// ascending order; the values of one bucket are tied. `None` if a sample is empty.
#[expect(clippy::cast_precision_loss, reason = "an approximation needs no more than 53 bits")]
pub(super) fn longer_probability(first: &[u64], second: &[u64]) -> Option<f64> {
    let (n1, n2) = (first.iter().sum::<u64>() as f64, second.iter().sum::<u64>() as f64);
    if n1 == 0.0 || n2 == 0.0 {
        return None;
    }
    let (mut u, mut below) = (0.0, 0.0);
    for (one, two) in first.iter().zip(second) {
        let (one, two) = (*one as f64, *two as f64);
        u += one * (below + two / 2.0);
        below += two;
    }
    Some(u / (n1 * n2))
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

    fn probability(first: &[u32], second: &[u32]) -> f64 {
        let size = first.iter().chain(second).max().unwrap() + 1;
        longer_probability(&counted(first, size), &counted(second, size)).unwrap()
    }

    /// The example in the scipy documentation of `mannwhitneyu`: U = 17.
    #[test]
    fn a_published_example_without_ties() {
        let found = probability(&[19, 22, 16, 29, 24], &[20, 11, 17, 12]);
        assert!((found - 17.0 / 20.0).abs() < 1e-12, "{found:?}");
    }

    #[test]
    fn an_empty_sample_and_tied_samples() {
        assert_eq!(longer_probability(&[0, 0], &[1, 2]), None);
        assert_eq!(longer_probability(&[4], &[9]), Some(0.5));
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
            prop_assert!((probability(&first, &second) - longer / pairs).abs() < 1e-9);
        }
    }
}
