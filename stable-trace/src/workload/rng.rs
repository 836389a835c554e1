//! The random offsets: `SplitMix64` (Steele, Lea and Flood, 2014), a few instructions a number.

/// A stream of random numbers that its seed determines.
#[derive(Clone, Debug)]
pub struct Rng {
    state: u64,
}

impl Rng {
    /// The stream of one worker of a run: other workers of the same run get other streams.
    #[must_use]
    pub fn for_worker(seed: u64, worker: u32) -> Self {
        // Mixed before the worker counts, or neighbours in `seed` would share all but one stream.
        let mut mixed = Self { state: seed };
        Self { state: mixed.bits().wrapping_add(u64::from(worker)) }.next_state_apart()
    }

    /// A step, so that workers, whose states differ by one, part at once.
    fn next_state_apart(mut self) -> Self {
        self.state = self.bits();
        self
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..bound`, and 0 if `bound` is 0. Its bias is below `bound` / 2⁶⁴.
    pub fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.bits()) * u128::from(bound);
        // The high half of a 64 by 64 bit product is smaller than `bound`: it fits.
        (wide >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_sequence() {
        // First outputs for seed 0, from the algorithm's published reference.
        let mut rng = Rng { state: 0 };
        assert_eq!(rng.bits(), 0xe220_a839_7b1d_cdaf);
        assert_eq!(rng.bits(), 0x6e78_9e6a_a1b9_65f4);
    }

    #[test]
    fn stays_below_the_bound_and_reaches_all_of_it() {
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
    fn same_seed_same_stream_and_every_worker_its_own() {
        let first = |seed, worker| Rng::for_worker(seed, worker).bits();
        assert_eq!(first(7, 3), first(7, 3));
        assert_ne!(first(7, 3), first(7, 4));
        assert_ne!(first(7, 3), first(8, 3));
        assert_ne!(first(7, 3), first(8, 2));
    }
}
