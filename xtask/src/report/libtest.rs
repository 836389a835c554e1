//! Parses the output of libtest and libtest-mimic, of several test binaries in sequence.

use super::Tally;

/// Parses the output of a run line by line; [`Reader::end`] returns the tally.
///
/// The counts come from the result lines. The names come from other lines, which a test's own output may
/// garble.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    tally: Tally,
    /// The binary that has started and has not printed its result.
    running: Option<Binary>,
}

/// One test binary: from its `running N tests` to its `test result:`.
#[derive(Debug, Default)]
struct Binary {
    /// The last list below `failures:`.
    failures: Vec<String>,
    in_failures: bool,
    ignored: Vec<(String, String)>,
    /// The last test that was named: the likely culprit if the binary dies.
    last: Option<String>,
}

/// The counts of a result line.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: usize,
    ignored: usize,
}

impl Reader {
    /// Parses the next line, without its line end.
    pub(crate) fn read(&mut self, line: &str) {
        if is_start(line) {
            self.end_without_result();
            self.running = Some(Binary::default());
        } else if let Some(counts) = counts(line) {
            self.finished(&counts);
        } else if let Some(binary) = &mut self.running {
            binary.read(line);
        }
    }

    /// The tally; `success` is whether the runner called `runner` exited with 0.
    pub(crate) fn end(mut self, runner: &str, success: bool) -> Tally {
        self.end_without_result();
        if !success && self.tally.failed.is_empty() {
            self.tally
                .fail(format!("{runner}: it failed, but no test failed (see its output above)"));
        }
        self.tally
    }

    /// Counts a binary that has printed no result as one failure.
    fn end_without_result(&mut self) {
        if let Some(binary) = self.running.take() {
            let last = binary
                .last
                .map_or_else(String::new, |name| format!(", the last test seen is {name}"));
            self.tally.fail(format!("a test binary died without a result{last}"));
        }
    }

    fn finished(&mut self, counts: &Counts) {
        let binary = self.running.take().unwrap_or_default();
        self.tally.passed += counts.passed;
        let nameless = || "a test whose name its output does not show".to_owned();

        let names = binary.failures.into_iter().chain(std::iter::repeat_with(nameless));
        self.tally.failed.extend(names.take(counts.failed));

        let unexplained = || (nameless(), "no reason given".to_owned());
        let ignored = binary.ignored.into_iter().chain(std::iter::repeat_with(unexplained));
        for (name, reason) in ignored.take(counts.ignored) {
            self.tally.skip(name, reason);
        }
    }
}

impl Binary {
    fn read(&mut self, line: &str) {
        if line == "failures:" {
            // Printed twice: above the output of the failed tests, and above the list of their names.
            self.failures.clear();
            self.in_failures = true;
        } else if self.in_failures && (line.is_empty() || line.starts_with("    ")) {
            self.failures
                .extend(Some(line.trim()).filter(|name| !name.is_empty()).map(str::to_owned));
        } else {
            self.in_failures = false;
            self.read_test(line);
        }
    }

    /// A line such as `test units::sizes ... ignored, needs root`.
    fn read_test(&mut self, line: &str) {
        let Some((name, outcome)) =
            line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... "))
        else {
            return;
        };
        let name = name.trim_end();
        self.last = Some(name.to_owned());
        if let Some(rest) = outcome.strip_prefix("ignored") {
            // libtest writes `ignored, REASON`, libtest-mimic `ignored (REASON)`.
            let mimic = || rest.trim().strip_prefix('(')?.strip_suffix(')');
            let reason = rest.strip_prefix(", ").or_else(mimic).map(str::trim);
            let reason = reason.filter(|reason| !reason.is_empty());
            self.ignored.push((name.to_owned(), reason.unwrap_or("no reason given").to_owned()));
        }
    }
}

/// Whether this is `running 1 test` or `running N tests`.
fn is_start(line: &str) -> bool {
    line.strip_prefix("running ")
        .and_then(|rest| rest.strip_suffix(" tests").or_else(|| rest.strip_suffix(" test")))
        .is_some_and(|count| count.parse::<u64>().is_ok())
}

/// The counts of `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
fn counts(line: &str) -> Option<Counts> {
    let (_verdict, fields) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let mut counts = Counts::default();
    for field in fields.split("; ") {
        match field.split_once(' ') {
            Some((count, "passed")) => counts.passed = count.parse().ok()?,
            Some((count, "failed")) => counts.failed = count.parse().ok()?,
            Some((count, "ignored")) => counts.ignored = count.parse().ok()?,
            _ => {}
        }
    }
    Some(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(text: &str, success: bool) -> Tally {
        let mut reader = Reader::default();
        text.lines().for_each(|line| reader.read(line));
        reader.end("cargo test", success)
    }

    const LIBTEST: &str = "
running 4 tests
test units::a ... ok
test units::b ... FAILED
test units::c ... ignored, needs root
test units::d ... ignored

failures:

---- units::b stdout ----

thread 'units::b' panicked at src/lib.rs:3:5:
    an indented line of its own

failures:
    units::b

test result: FAILED. 1 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.00s
";

    #[test]
    fn libtest() {
        let tally = tally(LIBTEST, false);
        assert_eq!(tally.passed, 1);
        assert_eq!(tally.failed, ["units::b"]);
        let skipped: Vec<_> =
            tally.skipped.iter().map(|skip| (skip.name.as_str(), skip.reason.as_str())).collect();
        assert_eq!(skipped, [("units::c", "needs root"), ("units::d", "no reason given")]);
    }

    #[test]
    fn libtest_mimic_pads_names() {
        let tally = tally(
            "running 2 tests\ntest fentry          ... ignored (refused here)\n\
             test tracepoint_long ... ok\n\n\
             test result: ok. 1 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.11s\n",
            true,
        );
        assert_eq!(
            tally.to_string(),
            "skipped:\n    fentry: refused here\n1 passed, 0 failed, 1 skipped"
        );
    }

    #[test]
    fn binaries_add_up() {
        let mut text = String::new();
        for _ in 0..3 {
            text +=
                "running 1 test\ntest a ... ok\n\ntest result: ok. 1 passed; 0 failed; 0 ignored\n";
        }
        assert_eq!(tally(&text, true), Tally { passed: 3, ..Tally::default() });
    }

    #[test]
    fn a_binary_that_dies_is_a_failure() {
        let died = "running 2 tests\ntest a ... ok\ntest b ... ";
        let alone = tally(died, false);
        assert_eq!(alone.failed, ["a test binary died without a result, the last test seen is b"]);
        let another = tally(&format!("{died}\n{LIBTEST}"), false);
        assert_eq!(another.failed.len(), 2);
        assert_eq!(another.passed, 1);
    }

    #[test]
    fn a_runner_that_fails_without_a_test_is_a_failure() {
        assert_eq!(tally("", false).failed.len(), 1);
        assert!(tally("", true).is_empty());
    }

    #[test]
    fn garbled_names_still_count() {
        let tally = tally(
            "running 2 tests\ntest a ... noise\nFAILED\ntest result: FAILED. 0 passed; 1 failed; 1 ignored",
            false,
        );
        assert_eq!((tally.failed.len(), tally.skipped.len()), (1, 1));
    }

    #[test]
    fn other_output_is_not_a_result() {
        assert!(!is_start("running tests"));
        assert!(!is_start("running late tests"));
        assert_eq!(counts("test result: unknown"), None);
        assert_eq!(counts("test results ... ok"), None);
    }
}
