//! The kernel series of the laboratory, and their Debian suites.

use std::fmt;

use clap::ValueEnum;

/// A kernel series of the test matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub(crate) enum Series {
    /// Debian 11.
    #[value(name = "5.10")]
    V5_10,
    /// Debian 12.
    #[value(name = "6.1")]
    V6_1,
    // From Debian 12's backports: Debian 13's packages need a newer `dpkg`.
    /// Debian 13.
    #[value(name = "6.12")]
    V6_12,
    /// Debian 13's backports.
    #[value(name = "7.3")]
    V7_3,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Suite {
    Archive(&'static str),
    /// A suite of the security archive, which may have another mirror.
    Security(&'static str),
}

impl Series {
    /// All series, oldest first.
    pub(crate) const MATRIX: [Self; 4] = [Self::V5_10, Self::V6_1, Self::V6_12, Self::V7_3];

    pub(crate) const OLDEST: Self = Self::V5_10;

    /// All series, those first whose tests take longest: so guests that run concurrently end at nearly the same
    /// time.
    pub(crate) const LONGEST_FIRST: [Self; Self::MATRIX.len()] =
        [Self::V7_3, Self::V5_10, Self::V6_1, Self::V6_12];

    /// Whether it is neither the oldest nor the newest.
    pub(crate) fn is_between(self) -> bool {
        let [_, between @ .., _] = Self::MATRIX;
        between.contains(&self)
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::V5_10 => "5.10",
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
            Self::V7_3 => "7.3",
        }
    }

    /// The suites with packages of this series; the newest package is used.
    pub(crate) const fn suites(self) -> &'static [Suite] {
        match self {
            Self::V5_10 => &[Suite::Archive("bullseye"), Suite::Security("bullseye-security")],
            Self::V6_1 => &[Suite::Archive("bookworm"), Suite::Security("bookworm-security")],
            Self::V6_12 => {
                &[Suite::Archive("bookworm-backports"), Suite::Security("bookworm-security")]
            }
            Self::V7_3 => &[Suite::Archive("trixie-backports")],
        }
    }

    /// Whether a release such as `6.1.0-56-amd64` belongs to this series.
    pub(crate) fn has(self, release: &str) -> bool {
        release.strip_prefix(self.name()).is_some_and(|rest| rest.starts_with('.'))
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Suite {
    /// The name below `dists/`.
    pub(crate) const fn name(self) -> &'static str {
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
    fn a_series_is_parsed_from_its_display() {
        for series in Series::MATRIX {
            assert_eq!(Series::from_str(&series.to_string(), false), Ok(series));
        }
    }
}
