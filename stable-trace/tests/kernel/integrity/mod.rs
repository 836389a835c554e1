//! Integrity errors: each failure is one event, with its check, its location and its pages.

mod file_system;
mod injected;
mod read_verification;
mod stacked_devices;
mod submitters;
mod unrelated_errors;
mod workload;

use anyhow::Result;

use crate::harness::{Test, integrity_failures};

pub(crate) fn tests() -> Vec<Test> {
    let mut tests = vec![Test::anywhere(
        "the_harness_parses_completions",
        integrity_failures::completion_lines_are_parsed,
    )];
    tests.extend(file_system::tests());
    tests.extend(injected::tests());
    tests.extend(workload::tests());
    tests.extend(stacked_devices::tests());
    tests.extend(submitters::tests());
    tests.extend(read_verification::tests());
    tests.extend(unrelated_errors::tests());
    tests
}

/// A test on the SCSI debug disk.
fn on_pi_disk(name: &str, body: impl FnOnce() -> Result<()> + Send + 'static) -> Test {
    Test::guest(name, body).requires_traced_pi_disk()
}
