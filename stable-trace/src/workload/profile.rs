//! The seven profiles: who writes, how, and through what kind of open file.

use std::fmt;

/// How a worker changes the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// `pwrite`.
    Write,
    /// Stores to a shared mapping.
    Mmap,
}

impl Mode {
    /// Both modes, in the order of reports.
    pub const ALL: [Self; 2] = [Self::Write, Self::Mmap];

    /// The value of the metrics' label `mode`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Mmap => "mmap",
        }
    }
}

/// A profile: `a` to `f` are those of the stable-pages patch set of 2011, `g` is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Profile {
    /// `pwrite` and sync.
    A,
    /// Stores to a mapping and `msync`.
    B,
    /// Half as in A, half as in B.
    C,
    /// C with the file opened `O_DIRECT`. Some `EIO` is its nature on ext4, xfs and raw devices: where a
    /// direct write cannot drop the page that a mapping keeps, the kernel marks the mapping with `EIO`
    /// ("Page cache invalidation failure on direct I/O" in its log), though no disk has failed.
    D,
    /// A with the file opened `O_DIRECT`.
    E,
    /// B with the file opened `O_DIRECT`; a mapping is page cache all the same.
    F,
    /// `O_DIRECT` writes of one shared buffer that is rewritten while it is in flight.
    G,
}

impl Profile {
    /// Every profile.
    pub const ALL: [Self; 7] = [Self::A, Self::B, Self::C, Self::D, Self::E, Self::F, Self::G];

    /// What `--profile all` stands for: the seed's six. `g` makes errors, so it is asked for by name.
    pub const SEED: [Self; 6] = [Self::A, Self::B, Self::C, Self::D, Self::E, Self::F];

    /// `a` to `g`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
            Self::C => "c",
            Self::D => "d",
            Self::E => "e",
            Self::F => "f",
            Self::G => "g",
        }
    }

    /// The profile of that name, whatever its case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|profile| profile.name().eq_ignore_ascii_case(name))
    }

    /// Whether workers open the file `O_DIRECT`.
    #[must_use]
    pub const fn direct(self) -> bool {
        matches!(self, Self::D | Self::E | Self::F | Self::G)
    }

    /// Whether all writers share one buffer that changes while it is in flight.
    #[must_use]
    pub const fn shared_buffer(self) -> bool {
        matches!(self, Self::G)
    }

    /// What worker number `worker` of `threads` does. Where both modes run, they alternate, so that
    /// an odd number has one writer more than mmap workers.
    #[must_use]
    pub const fn mode(self, worker: u32) -> Mode {
        match self {
            Self::A | Self::E | Self::G => Mode::Write,
            Self::C | Self::D if worker.is_multiple_of(2) => Mode::Write,
            Self::B | Self::C | Self::D | Self::F => Mode::Mmap,
        }
    }

    /// The fewest workers with which the profile is what its name says.
    #[must_use]
    pub const fn least_threads(self) -> u32 {
        match self {
            Self::C | Self::D => 2,
            _ => 1,
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(profile: Profile, threads: u32, mode: Mode) -> usize {
        (0..threads).filter(|&worker| profile.mode(worker) == mode).count()
    }

    #[test]
    fn half_and_half_is_half_and_half() {
        for profile in [Profile::C, Profile::D] {
            assert_eq!(count(profile, 64, Mode::Write), 32);
            assert_eq!(count(profile, 64, Mode::Mmap), 32);
            assert_eq!(count(profile, 5, Mode::Write), 3);
        }
        assert_eq!(count(Profile::A, 64, Mode::Write), 64);
        assert_eq!(count(Profile::F, 64, Mode::Mmap), 64);
    }

    #[test]
    fn names_go_both_ways() {
        for profile in Profile::ALL {
            assert_eq!(Profile::from_name(profile.name()), Some(profile));
        }
        assert_eq!(Profile::from_name("A"), Some(Profile::A));
        assert_eq!(Profile::from_name("h"), None);
    }
}
