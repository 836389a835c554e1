//! The profiles: how the workers write, and whether with `O_DIRECT`.

use std::fmt;

/// How a worker changes the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Mode {
    /// `pwrite`.
    Write,
    /// Stores to a shared mapping.
    Mmap,
}

impl Mode {
    /// The value of the label `mode` in metrics.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Mmap => "mmap",
        }
    }
}

/// A profile. `a` to `f` come from the 2011 stable-pages patch set; `g` is an addition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Profile {
    /// `pwrite` and sync.
    A,
    /// Stores to a mapping and `msync`.
    B,
    /// Half as in A, half as in B.
    C,
    /// C with the file opened `O_DIRECT`. On ext4, xfs and raw devices it gets some `EIO` although
    /// no disk fails: where a direct write cannot invalidate a mapped page, the kernel marks the
    /// address space with `EIO` and logs "Page cache invalidation failure on direct I/O".
    D,
    /// A with the file opened `O_DIRECT`.
    E,
    /// B with the file opened `O_DIRECT`, although stores to a mapping go through the page cache.
    F,
    /// `O_DIRECT` writes of one shared buffer that is rewritten while the writes are in flight.
    G,
}

impl Profile {
    const ALL: [Self; 7] = [Self::A, Self::B, Self::C, Self::D, Self::E, Self::F, Self::G];

    /// The profiles of the 2011 stable-pages patch set, which `--profile all` stands for. `g`
    /// causes errors, so it must be named.
    pub(super) const PATCH_SET: [Self; 6] = [Self::A, Self::B, Self::C, Self::D, Self::E, Self::F];

    pub(crate) const fn name(self) -> &'static str {
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

    /// Ignores case.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|profile| profile.name().eq_ignore_ascii_case(name))
    }

    pub(super) const fn uses_direct_io(self) -> bool {
        matches!(self, Self::D | Self::E | Self::F | Self::G)
    }

    /// Whether all writers share one buffer that is rewritten while it is in flight.
    pub(super) const fn shares_buffer(self) -> bool {
        matches!(self, Self::G)
    }

    /// The mode of worker number `worker`. Where both modes run they alternate, beginning with a
    /// writer.
    pub(super) const fn mode(self, worker: u32) -> Mode {
        match self {
            Self::A | Self::E | Self::G => Mode::Write,
            Self::C | Self::D if worker.is_multiple_of(2) => Mode::Write,
            Self::B | Self::C | Self::D | Self::F => Mode::Mmap,
        }
    }

    /// The fewest workers with which each of the profile's modes has one.
    pub(super) const fn min_threads(self) -> u32 {
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
    fn mixed_profiles_split_the_workers_evenly() {
        for profile in [Profile::C, Profile::D] {
            assert_eq!(count(profile, 64, Mode::Write), 32);
            assert_eq!(count(profile, 64, Mode::Mmap), 32);
            assert_eq!(count(profile, 5, Mode::Write), 3);
        }
        assert_eq!(count(Profile::A, 64, Mode::Write), 64);
        assert_eq!(count(Profile::F, 64, Mode::Mmap), 64);
    }

    #[test]
    fn names_parse_back() {
        for profile in Profile::ALL {
            assert_eq!(Profile::from_name(profile.name()), Some(profile));
        }
        assert_eq!(Profile::from_name("A"), Some(Profile::A));
        assert_eq!(Profile::from_name("h"), None);
    }
}
