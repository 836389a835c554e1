//! The results of all test runners in one tally.

pub(crate) mod libtest;

use std::fmt::{self, Display, Formatter};
use std::process::ExitCode;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Skip {
    pub(crate) name: String,
    pub(crate) reason: String,
}

/// How many tests passed, failed and were skipped, and which.
///
/// `Display` prints the skipped tests with their reasons, the failed tests, then the closing line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    /// Names of tests that failed, and descriptions of runners that died.
    pub(crate) failed: Vec<String>,
    pub(crate) skipped: Vec<Skip>,
}

impl Tally {
    pub(crate) fn pass(&mut self) {
        self.passed += 1;
    }

    pub(crate) fn fail(&mut self, name: impl Into<String>) {
        self.failed.push(name.into());
    }

    pub(crate) fn skip(&mut self, name: impl Into<String>, reason: impl Into<String>) {
        self.skipped.push(Skip { name: name.into(), reason: reason.into() });
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed.extend(other.failed);
        self.skipped.extend(other.skipped);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.passed == 0 && self.failed.is_empty() && self.skipped.is_empty()
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        if self.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

impl Display for Tally {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if !self.skipped.is_empty() {
            writeln!(f, "skipped:")?;
            for Skip { name, reason } in &self.skipped {
                writeln!(f, "    {name}: {reason}")?;
            }
        }
        if !self.failed.is_empty() {
            writeln!(f, "failed:")?;
            for name in &self.failed {
                writeln!(f, "    {name}")?;
            }
        }
        let Self { passed, failed, skipped } = self;
        write!(f, "{passed} passed, {} failed, {} skipped", failed.len(), skipped.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_ends_in_one_closing_line() {
        let mut tally = Tally::default();
        assert_eq!(tally.to_string(), "0 passed, 0 failed, 0 skipped");
        tally.pass();
        tally.skip("kernel::fentry", "this kernel refuses fentry");
        let mut other = Tally::default();
        other.pass();
        other.fail("units::sizes");
        tally.add(other);
        assert_eq!(
            tally.to_string(),
            "skipped:\n    kernel::fentry: this kernel refuses fentry\nfailed:\n    units::sizes\n\
             2 passed, 1 failed, 1 skipped"
        );
    }
}
