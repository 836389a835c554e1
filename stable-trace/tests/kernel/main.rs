//! Tests against a running kernel: this machine's, or that of a guest of `cargo xtask vm`.
//!
//! One program serves both. Each test declares where it runs and what it requires. A test that does
//! not run in this environment is not listed; a test whose requirement is not met is ignored, with
//! the reason.

mod backings;
mod cleanup;
mod cli_errors;
mod dashboards;
mod degradation;
mod device_stacks;
mod doctor;
mod event_loss;
mod experiment;
mod faults;
mod filters;
mod harness;
mod identity;
mod integrity;
mod laboratory;
mod metrics;
mod nested_faults;
mod oracle;
mod outputs;
mod paired_workload;
mod privileges;
mod probes;
mod processes;
mod proofs;
mod recording;
mod scope;
mod service;
mod stable_pages_patchset;
mod stack_layouts;
mod stall_contexts;
mod stalls;
mod stuck;
mod termination;
mod top;
mod unstable_writes;
mod verdicts;
mod volumes;
mod workload_failures;

use std::process::ExitCode;

use libtest_mimic::Arguments;

use crate::harness::fuse_server::ServerProcess;

fn main() -> ExitCode {
    if let Some(status) = ServerProcess::serve_if_asked() {
        return status;
    }
    let mut arguments = Arguments::from_args();
    // Tests share one tracer and one disk of each kind, so they run one at a time.
    arguments.test_threads = Some(1);
    harness::process::hand_hangups_down();
    harness::host::set_up_mounts();
    let tests = [
        ("laboratory", laboratory::tests()),
        ("dashboards", dashboards::tests()),
        ("doctor", doctor::tests()),
        ("recording", recording::tests()),
        ("cli_errors", cli_errors::tests()),
        ("stalls", stalls::tests()),
        ("stuck", stuck::tests()),
        ("top", top::tests()),
        ("identity", identity::tests()),
        ("backings", backings::tests()),
        ("volumes", volumes::tests()),
        ("workload_failures", workload_failures::tests()),
        ("stable_pages_patchset", stable_pages_patchset::tests()),
        ("stack_layouts", stack_layouts::tests()),
        ("stall_contexts", stall_contexts::tests()),
        ("unstable_writes", unstable_writes::tests()),
        ("integrity", integrity::tests()),
        ("paired_workload", paired_workload::tests()),
        ("proofs", proofs::tests()),
        ("verdicts", verdicts::tests()),
        ("nested_faults", nested_faults::tests()),
        ("cleanup", cleanup::tests()),
        ("degradation", degradation::tests()),
        ("privileges", privileges::tests()),
        ("probes", probes::tests()),
        ("event_loss", event_loss::tests()),
        ("metrics", metrics::tests()),
        ("processes", processes::tests()),
        ("filters", filters::tests()),
        ("device_stacks", device_stacks::tests()),
        ("scope", scope::tests()),
        ("service", service::tests()),
        ("outputs", outputs::tests()),
        ("termination", termination::tests()),
        ("faults", faults::tests()),
        ("experiment", experiment::tests()),
        ("oracle", oracle::tests()),
    ];
    let trials = tests.into_iter().flat_map(|(module, tests)| {
        tests.into_iter().filter_map(move |test| test.into_trial(module))
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}
