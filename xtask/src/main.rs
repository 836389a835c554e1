//! stable-trace's own commands: `cargo xtask --help`.

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
    /// Install what builds need and is missing: `rust-src`, the BPF linker.
    Setup,
    /// Build the agent with its eBPF programs.
    Build(compile::BuildArgs),
    /// Run `stable-trace` as root; without arguments, trace a short demonstration.
    Run(run::RunArgs),
    /// Run every test and lint there is, and say what passed, failed and was skipped.
    Test(test::TestArgs),
    /// Boot a Debian kernel with test disks, and run a command there.
    Vm(lab::VmArgs),
    /// Save what each kernel has of what the probes need, for tests without a kernel.
    Fixtures(lab::FixturesArgs),
    /// Make the Grafana dashboards' files, or pictures of them.
    #[command(subcommand)]
    Dashboards(dashboards::DashboardsCommand),
    /// Measure what tracing costs, and print tables; nothing is asserted.
    Bench(bench::BenchArgs),
    /// Leave a static, stripped binary at `target/dist/stable-trace`.
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
