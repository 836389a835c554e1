//! Integrity errors: as many as there were, each with its check, its place and its pages.

mod injected;
mod others;
mod stacked;
mod verified;
mod workload;

use anyhow::Result;

use crate::bed::{Need, Test, failures};

pub fn tests() -> Vec<Test> {
    let mut tests =
        vec![Test::both("integrity::the_bed_reads_completions", failures::lines_are_read)];
    tests.extend(injected::tests());
    tests.extend(workload::tests());
    tests.extend(stacked::tests());
    tests.extend(verified::tests());
    tests.extend(others::tests());
    tests
}

/// A test on the SCSI debug disk.
fn on_the_disk(name: &str, story: impl FnOnce() -> Result<()> + Send + 'static) -> Test {
    Test::guest(format!("integrity::{name}"), story)
        .needs(Need::Agent)
        .needs(Need::Tracefs)
        .needs(Need::PiDisk)
}
