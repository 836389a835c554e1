//! stable-trace's own commands.

mod lab;

use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
enum Command {
    Vm(lab::VmArgs),
}

fn main() -> ExitCode {
    let Command::Vm(args) = Command::parse();
    lab::vm(&args).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
