//! The kernels that the laboratory knows, and where Debian keeps them.

use std::fmt;

use clap::ValueEnum;

/// A kernel series of the matrix: the oldest and the newest that users have, and two between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub enum Series {
    /// Debian 11's.
    #[value(name = "5.10")]
    V5_10,
    /// Debian 12's.
    #[value(name = "6.1")]
    V6_1,
    /// Debian 13's, as Debian 12 gets it: its own packages want a newer `dpkg`.
    #[value(name = "6.12")]
    V6_12,
    /// The newest in Debian's backports.
    #[value(name = "7.3")]
    V7_3,
}

/// One suite of the Debian archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// In the archive itself.
    Archive(&'static str),
    /// In the security archive, which may have another mirror.
    Security(&'static str),
}

impl Series {
    /// The whole matrix, oldest first.
    pub const MATRIX: [Self; 4] = [Self::V5_10, Self::V6_1, Self::V6_12, Self::V7_3];

    /// What stands before the next dot in a release of this series.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::V5_10 => "5.10",
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
            Self::V7_3 => "7.3",
        }
    }

    /// The suites that have packages of this series; the newest package of all of them is taken.
    #[must_use]
    pub const fn suites(self) -> &'static [Suite] {
        match self {
            Self::V5_10 => &[Suite::Archive("bullseye"), Suite::Security("bullseye-security")],
            Self::V6_1 => &[Suite::Archive("bookworm"), Suite::Security("bookworm-security")],
            Self::V6_12 => {
                &[Suite::Archive("bookworm-backports"), Suite::Security("bookworm-security")]
            }
            Self::V7_3 => &[Suite::Archive("trixie-backports")],
        }
    }

    /// Whether a release such as `6.1.0-56-amd64` is of this series: 6.12 is not of 6.1.
    #[must_use]
    pub fn has(self, release: &str) -> bool {
        release.strip_prefix(self.name()).is_some_and(|rest| rest.starts_with('.'))
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Suite {
    /// The suite's name below `dists/`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Archive(name) | Self::Security(name) => name,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_more_than_a_prefix() {
        assert!(Series::V6_1.has("6.1.0-56-amd64"));
        assert!(!Series::V6_1.has("6.12.117+deb12-amd64"));
        assert!(!Series::V6_1.has("6.19.14+deb13-amd64"));
    }

    #[test]
    fn every_series_is_typed_as_it_is_printed() {
        for series in Series::MATRIX {
            assert_eq!(Series::from_str(&series.to_string(), false), Ok(series));
        }
    }
}
