//! Tests against a running kernel: this machine's, or that of a guest of `cargo xtask vm`.
//!
//! One program serves both. Each test says where it belongs and what it needs; where it does not
//! belong it is not listed, and where something is missing it is ignored, with the reason.

mod bed;
mod dashboards;
mod doctor;
mod ending;
mod experiment;
mod filters;
mod gaps;
mod integrity;
mod laboratory;
mod leftovers;
mod loss;
mod metrics;
mod nested;
mod oracle;
mod paired;
mod probes;
mod recording;
mod refusals;
mod rewriting;
mod seed;
mod stalls;
mod sync;
mod unstable;
mod verdicts;

use std::process::ExitCode;

use libtest_mimic::Arguments;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // There is one tracer and one disk of each kind: a test has them for itself.
    arguments.test_threads = Some(1);
    bed::host::settle();
    let tests = [
        laboratory::tests(),
        dashboards::tests(),
        doctor::tests(),
        recording::tests(),
        refusals::tests(),
        stalls::tests(),
        rewriting::tests(),
        seed::tests(),
        sync::tests(),
        unstable::tests(),
        integrity::tests(),
        paired::tests(),
        verdicts::tests(),
        nested::tests(),
        leftovers::tests(),
        gaps::tests(),
        probes::tests(),
        loss::tests(),
        metrics::tests(),
        filters::tests(),
        ending::tests(),
        experiment::tests(),
        oracle::tests(),
    ];
    let trials = tests.into_iter().flatten().filter_map(bed::Test::into_trial).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
