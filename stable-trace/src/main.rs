//! `stable-trace`: see `stable_trace`.

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use stable_trace::workload::{WacArgs, command};

#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the write-after-checksum workload
    Wac {
        #[command(flatten)]
        args: WacArgs,
        /// Run the workload alone
        #[arg(long)]
        no_trace: bool,
        /// What standard output carries
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
        /// No progress
        #[arg(short, long)]
        quiet: bool,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
}

fn main() -> ExitCode {
    let Command::Wac { args, no_trace: _, format, quiet } = Cli::parse().command;
    let format = match format {
        Format::Text => command::Format::Text,
        Format::Json => command::Format::Json,
    };
    command::run_standalone(&args, format, quiet).unwrap_or_else(|error| {
        eprintln!("stable-trace: {error}");
        ExitCode::FAILURE
    })
}
