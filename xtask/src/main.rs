//! The project's own commands: `cargo xtask --help`.

mod bench;
mod compile;
mod dashboards;
mod dist;
mod elf;
mod lab;
mod progress;
mod report;
mod run;
mod scratch;
mod setup;
mod shell;
mod supervise;
mod test;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Set up, build, run and test stable-trace.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install missing build dependencies: `rust-src`, the BPF linker.
    Setup,
    /// Build the agent with its eBPF programs.
    Build(compile::BuildArgs),
    /// Run `stable-trace` as root; without arguments, trace a short demonstration.
    Run(run::RunArgs),
    /// Run all lints and tests, and print what passed, failed and was skipped.
    Test(test::TestArgs),
    /// Boot a Debian kernel with test disks in QEMU, and run a command there.
    Vm(lab::VmArgs),
    /// Save the probe-related facts of each kernel as fixtures for unit tests.
    Fixtures(lab::FixturesArgs),
    /// Write the Grafana dashboards, or draw pictures of them.
    #[command(subcommand)]
    Dashboards(dashboards::DashboardsCommand),
    /// Measure the cost of tracing, and print tables.
    Bench(bench::BenchArgs),
    /// Build a static, stripped binary: `target/dist/stable-trace`.
    Dist,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Setup => setup::for_builds().map(|()| ExitCode::SUCCESS),
        Command::Build(args) => compile::build(&args).map(|()| ExitCode::SUCCESS),
        Command::Run(args) => run::run(&args),
        Command::Test(args) => test::test(&args),
        Command::Vm(args) => lab::vm(&args),
        Command::Fixtures(args) => lab::fixtures(&args).map(|()| ExitCode::SUCCESS),
        Command::Dashboards(command) => {
            dashboards::dashboards(&command).map(|()| ExitCode::SUCCESS)
        }
        Command::Bench(args) => bench::bench(&args).map(|()| ExitCode::SUCCESS),
        Command::Dist => dist::dist().map(|()| ExitCode::SUCCESS),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
