//! The command line.

mod config;
mod options;
mod output;
mod report;
mod report_exports;
mod signals;
mod stderr;
mod stuck;
mod top;
mod tracing;

use std::{
    io::{self, IsTerminal as _, Write as _},
    path::Path,
    process::ExitCode,
};

use clap::CommandFactory as _;
use env_logger::Target;
use log::LevelFilter;
use stable_trace_analysis::{error_chain::ErrorChain, sink::format::sanitize};

use config::OptionsError;
use options::{Cli, Color, Command, ConfigCommand, Format, Verbosity};
use stderr::Messages;

use crate::workload::command::{self as wac, Format as WacFormat};

/// Runs the command that the command line names. An error is one line on stderr.
pub fn main() -> ExitCode {
    let cli = match config::options(std::env::args_os().collect::<Vec<_>>()) {
        Ok(cli) => cli,
        Err(OptionsError::Usage(error)) => error.exit(),
        Err(OptionsError::Config(error)) => return failure(&error),
    };
    let color = cli.color.is_enabled(io::stderr().is_terminal());
    log_to_stderr(&cli.verbosity, color);
    let result = match cli.command.unwrap_or(Command::Trace(cli.trace)) {
        Command::Trace(args) => tracing::trace(&args, cli.color),
        Command::Run(args) => tracing::run(args, cli.color),
        Command::Wac(args) if args.no_trace => {
            let format = match args.tracing.format {
                Format::Text => WacFormat::Text,
                Format::Json => WacFormat::Json,
            };
            wac::run_standalone(&args.wac, format, cli.verbosity.quiet).map_err(Into::into)
        }
        Command::Wac(args) => tracing::wac(args, cli.color, cli.verbosity.quiet),
        Command::Experiment(args) => tracing::experiment(&args, cli.verbosity.quiet),
        Command::Doctor(args) => tracing::doctor(&args),
        Command::Top(args) => top::top(&args, cli.color),
        Command::Stuck(args) => stuck::stuck(&args, cli.color),
        Command::Report(args) => report::report(&args, cli.color),
        Command::Config(ConfigCommand::Check { file }) => check_config(&file),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "stable-trace", &mut io::stdout());
            Ok(ExitCode::SUCCESS)
        }
        Command::Facts => tracing::facts(),
        Command::Man => clap_mangen::Man::new(Cli::command())
            .render(&mut io::stdout())
            .map_err(Into::into)
            .map(|()| ExitCode::SUCCESS),
    };
    let status = result.unwrap_or_else(|error| failure(error.as_ref()));
    stderr::flush();
    status
}

/// Checks the file of `--config`.
fn check_config(file: &Path) -> anyhow::Result<ExitCode> {
    config::check(file)?;
    // A closed pipe does not change the exit status.
    let _ = writeln!(io::stdout(), "{} is sound", sanitize(&file.display().to_string()));
    Ok(ExitCode::SUCCESS)
}

/// Tells why the program could not do what was asked, on one line.
fn failure(error: &(dyn std::error::Error + 'static)) -> ExitCode {
    // A closed stderr is ignored: there is no other place for the message.
    let _ = writeln!(Messages::default(), "stable-trace: {}", ErrorChain(error));
    stderr::flush();
    ExitCode::FAILURE
}

/// Logs warnings and, with `-v`, more to stderr.
fn log_to_stderr(verbosity: &Verbosity, color: bool) {
    let level = match (verbosity.quiet, verbosity.verbose) {
        (true, _) => LevelFilter::Error,
        (false, 0) => LevelFilter::Warn,
        (false, 1) => LevelFilter::Info,
        (false, 2) => LevelFilter::Debug,
        (false, _) => LevelFilter::Trace,
    };
    env_logger::Builder::new()
        .filter_module("stable_trace", level)
        // Log messages of the eBPF programs have the name of their crate.
        .filter_module("stable_trace_ebpf", level)
        .filter_level(level.min(LevelFilter::Warn))
        .target(Target::Pipe(Box::new(Messages::default())))
        .write_style(if color {
            env_logger::WriteStyle::Always
        } else {
            env_logger::WriteStyle::Never
        })
        .format(move |out, record| {
            let style = out.default_level_style(record.level());
            let level = record.level().as_str().to_ascii_lowercase();
            // Messages name files, mounts and tasks.
            let message = sanitize(&record.args().to_string());
            writeln!(out, "stable-trace: {style}{level}{style:#}: {message}")
        })
        .init();
}

impl Color {
    /// Whether to use colours on a stream that is, or is not, a terminal.
    fn is_enabled(self, terminal: bool) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            // https://no-color.org: any value but an empty one disables colours.
            Self::Auto => {
                terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            }
        }
    }
}
