//! The random offsets: `SplitMix64` (Steele, Lea and Flood, 2014).
//!
//! The same `--seed` has to give the same offsets in every version. `fastrand` and the default
//! generators of `rand` do not promise that, and a fixed generator such as that of `rand_xoshiro`
//! would replace only the five lines of [`Rng::next_u64`].

/// A random stream that is determined by its seed.
#[derive(Clone, Debug)]
pub(super) struct Rng {
    state: u64,
}

impl Rng {
    /// The stream of one worker; each worker of a run has a different one.
    pub(super) fn for_worker(seed: u64, worker: u32) -> Self {
        // The seed is mixed before the worker number is added: otherwise two neighbouring seeds
        // would share all streams but one. The second mix separates the workers' states.
        let mixed_seed = Self { state: seed }.next_u64();
        let state = Self { state: mixed_seed.wrapping_add(u64::from(worker)) }.next_u64();
        Self { state }
    }

    fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..bound`, or 0 if `bound` is 0. Its bias is below `bound` / 2⁶⁴.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.next_u64()) * u128::from(bound);
        // The high half of a 64 by 64 bit product is smaller than `bound`: it fits.
        (wide >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_the_reference_sequence() {
        // The first outputs for seed 0 of the published reference implementation.
        let mut rng = Rng { state: 0 };
        assert_eq!(rng.next_u64(), 0xe220_a839_7b1d_cdaf);
        assert_eq!(rng.next_u64(), 0x6e78_9e6a_a1b9_65f4);
    }

    #[test]
    fn numbers_cover_the_range_below_the_bound() {
        let mut rng = Rng::for_worker(1, 0);
        let mut seen = [false; 16];
        for _ in 0..2000 {
            seen[usize::try_from(rng.below(16)).unwrap()] = true;
        }
        assert_eq!(seen, [true; 16]);
        assert!((0..100).all(|_| rng.below(1) == 0));
        assert_eq!(rng.below(0), 0);
        assert!((0..100).all(|_| rng.below(u64::MAX) < u64::MAX));
    }

    #[test]
    fn a_stream_depends_on_seed_and_worker_only() {
        let first = |seed, worker| Rng::for_worker(seed, worker).next_u64();
        assert_eq!(first(7, 3), first(7, 3));
        assert_ne!(first(7, 3), first(7, 4));
        assert_ne!(first(7, 3), first(8, 3));
        assert_ne!(first(7, 3), first(8, 2));
    }
}
