//! Integrity errors: as many as there were, each with its check, its place and its pages.

mod injected;
mod others;
mod stacked;
mod verified;
mod workload;

use anyhow::Result;

use crate::harness::{Requirement, Test, failures};

pub fn tests() -> Vec<Test> {
    let mut tests =
        vec![Test::anywhere("integrity::the_bed_reads_completions", integrity_failures::lines_are_read)];
    tests.extend(injected::tests());
    tests.extend(workload::tests());
    tests.extend(stacked::tests());
    tests.extend(verified::tests());
    tests.extend(others::tests());
    tests
}

/// A test on the SCSI debug disk.
fn on_the_disk(name: &str, body: impl FnOnce() -> Result<()> + Send + 'static) -> Test {
    Test::guest(format!("integrity::{name}"), body)
        .requires(Requirement::Agent)
        .requires(Requirement::Tracefs)
        .requires(Requirement::PiDisk)
}
