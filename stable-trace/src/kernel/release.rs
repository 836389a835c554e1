//! The kernel's version.

use std::fmt;

/// A kernel version: major and minor number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Release {
    pub major: u32,
    pub minor: u32,
}

/// The fields of uname(2) that are used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct System {
    /// `uname -r`, such as `6.1.0-50-amd64`.
    pub release: String,
    /// `uname -m`, such as `x86_64`.
    pub machine: String,
    /// `uname -n`.
    pub hostname: String,
}

impl Release {
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }

    /// Parses `uname -r`; `None` if it does not begin with two numbers.
    pub fn parse(release: &str) -> Option<Self> {
        let mut numbers = release.trim().split(|c: char| !c.is_ascii_digit());
        Some(Self { major: numbers.next()?.parse().ok()?, minor: numbers.next()?.parse().ok()? })
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl System {
    pub fn read() -> Self {
        let uname = rustix::system::uname();
        Self {
            release: uname.release().to_string_lossy().into_owned(),
            machine: uname.machine().to_string_lossy().into_owned(),
            hostname: uname.nodename().to_string_lossy().into_owned(),
        }
    }

    /// The version; 0.0 if the release cannot be parsed.
    pub fn version(&self) -> Release {
        Release::parse(&self.release).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_of_distributions_are_parsed() {
        for (text, major, minor) in [
            ("5.10.0-32-amd64", 5, 10),
            ("6.12.95+deb12-amd64", 6, 12),
            ("7.3.4", 7, 3),
            ("7.0-rc1", 7, 0),
            ("6.18.44-fc-v595\n", 6, 18),
        ] {
            assert_eq!(Release::parse(text), Some(Release::new(major, minor)), "{text}");
        }
        for text in ["", "6", "v6.1", "99999999999.1"] {
            assert_eq!(Release::parse(text), None, "{text}");
        }
        assert!(Release::new(5, 16) < Release::new(6, 1));
    }
}
