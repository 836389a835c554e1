//! stable-trace's own commands.

mod lab;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
enum Command {
    Vm(lab::VmArgs),
    Test {
        #[arg(long, value_enum)]
        kernel: Vec<lab::Series>,
        #[arg(long, value_enum, default_value_t)]
        accel: lab::Accel,
        #[arg(long)]
        jobs: Option<usize>,
        #[arg(last = true)]
        arguments: Vec<OsString>,
    },
}

fn main() -> ExitCode {
    let done = match Command::parse() {
        Command::Vm(args) => lab::vm(&args),
        Command::Test { kernel, accel, jobs, arguments } => test(kernel, accel, jobs, arguments),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn test(
    kernels: Vec<lab::Series>,
    accel: lab::Accel,
    jobs: Option<usize>,
    arguments: Vec<OsString>,
) -> anyhow::Result<ExitCode> {
    let mut selection = lab::GuestSelection { kernels, arguments, accel, ..Default::default() };
    selection.jobs = jobs.unwrap_or(selection.jobs);
    let results = lab::guest_tests(&selection, &mut |series, line| println!("{series}: {line}"))?;
    for lab::GuestResult { kernel, boot, total, failure } in &results {
        println!("{kernel}: booted in {boot:?}, {total:?} in all, {failure:?}");
    }
    Ok(ExitCode::from(u8::from(results.iter().any(|result| result.failure.is_some()))))
}
