//! Commands and options. Help, completions and the manual page come from here.

use std::{ffi::OsString, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use stable_trace_analysis::{
    event::{Grade, Method, Summary},
    units::{parse_duration, parse_size},
};

use crate::{experiment::ExperimentArgs, workload::WacArgs};

/// Trace waits for writeback: which task, which file, which device, how long, and why.
///
/// Without a command: trace until Ctrl-C, then print the summary.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true, max_term_width = 100)]
pub struct Cli {
    /// What to do
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Options of `trace`
    #[command(flatten)]
    pub trace: TraceArgs,

    /// How much is said on stderr
    #[command(flatten)]
    pub verbosity: Verbosity,

    /// When to use colours; `NO_COLOR` is honoured
    #[arg(long, value_enum, value_name = "WHEN", default_value_t, global = true)]
    pub color: Color,
}

/// How much is said on stderr.
#[derive(Args, Debug)]
pub struct Verbosity {
    /// Say more on stderr; twice, and the programs' own messages come too
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub verbose: u8,

    /// Say nothing on stderr but errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Trace until Ctrl-C, SIGTERM or --duration, then print the summary (also without a command)
    Trace(TraceArgs),
    /// Trace around one command, and exit with its status
    Run(RunArgs),
    /// Launch the paired workload, which rewrites the same pages as fast as it goes, and trace it
    Wac(Box<TracedWacArgs>),
    /// Measure what stable pages cost: the same workload with stable writes on and off, in turn
    Experiment(Box<ExperimentArgs>),
    /// Say what this kernel, these devices and these privileges offer, and what to do about gaps
    Doctor(DoctorArgs),
    /// Tell what a recording made with --record has in it: its summary, its verdicts, and a page
    /// that shows them; needs no privileges
    Report(ReportArgs),
    /// Print a completion script
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
    /// Print what this kernel has of what the probes need, as the plan is tested with
    #[command(hide = true)]
    Facts,
}

/// `trace`.
#[derive(Args, Debug)]
pub struct TraceArgs {
    /// Tracing
    #[command(flatten)]
    pub tracing: TracingArgs,

    /// Stop after this long
    #[arg(long, value_name = "DUR", value_parser = parse_duration)]
    pub duration: Option<Duration>,
}

/// `run`.
#[derive(Args, Debug)]
pub struct RunArgs {
    /// Tracing
    #[command(flatten)]
    pub tracing: TracingArgs,

    /// Tell the command to end (SIGTERM) after this long
    #[arg(long, value_name = "DUR", value_parser = parse_duration)]
    pub duration: Option<Duration>,

    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// `wac`.
#[derive(Args, Debug)]
pub struct TracedWacArgs {
    /// The workload
    #[command(flatten)]
    pub wac: WacArgs,

    /// Run the workload alone; needs no privileges
    #[arg(long)]
    pub no_trace: bool,

    /// Tracing
    #[command(flatten)]
    pub tracing: TracingArgs,
}

/// `doctor`.
#[derive(Args, Debug)]
pub struct DoctorArgs {
    /// A table, or one JSON object
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub format: Format,
}

/// `report`.
#[derive(Args, Debug)]
pub struct ReportArgs {
    /// The recording, compressed or not
    #[arg(value_name = "RECORDING")]
    pub recording: PathBuf,

    /// Also write a page that shows it, in one file, to OUT
    #[arg(long, value_name = "OUT")]
    pub html: Option<PathBuf>,

    /// Read on while the recording grows, and show every line, until its summary or Ctrl-C
    #[arg(long)]
    pub follow: bool,

    /// What is printed: text for people, or one JSON object a line
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub format: Format,

    /// How long before an integrity error what happened may have to do with it [default: as in the
    /// run]
    #[arg(long, value_name = "DUR", value_parser = parse_duration)]
    pub window: Option<Duration>,
}

/// What every tracing command takes.
#[derive(Args, Debug)]
#[command(next_help_heading = "Tracing")]
pub struct TracingArgs {
    /// How probes attach; `auto` picks per probe the cheapest that works here
    #[arg(long, value_enum, value_name = "METHOD", default_value_t)]
    pub attach: Attach,

    /// Only this block device, by name or MAJOR:MINOR; a partition stands for its disk (repeatable)
    #[arg(long = "device", value_name = "NAME")]
    pub devices: Vec<String>,

    /// Only waiters of this process
    #[arg(long, value_name = "PID")]
    pub pid: Option<u32>,

    /// Only waiters whose thread has this name
    #[arg(long, value_name = "NAME")]
    pub comm: Option<String>,

    /// Only waiters in this cgroup (v2), or below it
    #[arg(long, value_name = "PATH")]
    pub cgroup: Option<PathBuf>,

    /// Stream only stalls at least this long; histograms and counters always count every one
    #[arg(long, value_name = "DUR", default_value = "1ms", value_parser = parse_duration)]
    pub min_latency: Duration,

    /// What the stream is: text for people, or one JSON object a line
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub format: Format,

    /// Where the stream goes [default: stdout]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Write every event and the environment to this file, for `report`; compressed if its name ends
    /// in `.zst`
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,

    /// Where metrics are served: IP:PORT, where port 0 is any free one, or `off` for nowhere
    /// [default: 127.0.0.1:9748]
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<ListenAt>,

    /// Do not have the kernel time eBPF programs. It reads a clock twice a run for that, of every
    /// program on this machine, as long as this one runs; without, the programs' cost is not known
    #[arg(long)]
    pub no_program_statistics: bool,

    /// TLS and passwords for the metrics: a file in the format that Prometheus exporters share
    #[arg(long, value_name = "FILE")]
    pub web_config: Option<PathBuf>,

    /// Show the kernel stack of streamed stalls
    #[arg(long)]
    pub stacks: bool,

    /// Stream unstable writes that harm nobody, too: those to devices below which nothing checks
    #[arg(long)]
    pub harmless: bool,

    /// Exit with status 4 if one was seen, unless the command's own status is not 0
    #[arg(long, value_enum, value_name = "WHAT")]
    pub fail_on: Option<FailOn>,

    /// How long before an integrity error what happened may have to do with it
    #[arg(long, value_name = "DUR", default_value = "5s", value_parser = parse_duration)]
    pub window: Duration,

    /// Read the kernel's types from this file instead of /sys/kernel/btf/vmlinux
    #[arg(long, value_name = "FILE")]
    pub btf: Option<PathBuf>,

    /// Size of the ring buffer between kernel and agent; rounded up to a power of two pages
    #[arg(long, value_name = "SIZE", default_value = "2MiB", value_parser = parse_size)]
    pub ring_size: u64,
}

/// `--listen`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenAt {
    /// Nowhere.
    Off,
    /// There.
    Address(SocketAddr),
}

impl FromStr for ListenAt {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "off" {
            return Ok(Self::Off);
        }
        text.parse().map(Self::Address).map_err(
            |_| "give IP:PORT, such as 127.0.0.1:9748 or [::]:9748 for every address, or `off`",
        )
    }
}

/// `--attach`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Attach {
    /// The cheapest that works
    #[default]
    Auto,
    /// fentry and fexit
    Fentry,
    /// kprobes and kretprobes
    Kprobe,
    /// Tracepoints
    Tracepoint,
}

/// `--fail-on`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FailOn {
    /// An integrity error
    Integrity,
    /// A page changed under writeback though its mapping forbids it, or though a device below checks
    /// it
    UnstableWrite,
    /// Any of these
    Any,
}

impl FailOn {
    /// Whether a run has seen it. Counts what was not streamed, too.
    #[must_use]
    pub fn is_met(self, summary: &Summary) -> bool {
        let integrity = summary.integrity_errors_total > 0;
        let unstable = summary.unstable_writes.iter();
        let unstable =
            unstable.filter(|line| line.grade != Grade::Harmless).any(|line| line.count > 0);
        match self {
            Self::Integrity => integrity,
            Self::UnstableWrite => unstable,
            Self::Any => integrity || unstable,
        }
    }
}

impl Attach {
    /// The one method that the plan is narrowed to; nothing for `auto`.
    #[must_use]
    pub const fn method(self) -> Option<Method> {
        match self {
            Self::Auto => None,
            Self::Fentry => Some(Method::Fentry),
            Self::Kprobe => Some(Method::Kprobe),
            Self::Tracepoint => Some(Method::Tracepoint),
        }
    }
}

/// `--format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Text,
    /// One object a line
    Json,
}

/// `--color`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal
    #[default]
    Auto,
    /// Also into a file or a pipe
    Always,
    /// Nowhere
    Never,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(["stable-trace"].iter().chain(words))
    }

    #[test]
    fn the_definition_is_sound() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn no_command_is_trace() {
        let cli = parse(&["--device", "sda", "--device", "8:16", "--min-latency", "0"]).unwrap();
        assert!(cli.command.is_none());
        assert_eq!(cli.trace.tracing.devices, ["sda", "8:16"]);
        assert_eq!(cli.trace.tracing.min_latency, Duration::ZERO);
    }

    #[test]
    fn a_command_keeps_its_own_options() {
        let cli = parse(&["run", "--format", "json", "-q", "--", "dd", "--help", "-v"]).unwrap();
        let Some(Command::Run(args)) = cli.command else { panic!("{cli:?}") };
        assert_eq!(args.command, ["dd", "--help", "-v"]);
        assert!(cli.verbosity.quiet);
    }

    #[test]
    fn nonsense_is_refused_before_anything_happens() {
        for words in [
            &["--min-latency", "soon"][..],
            &["--attach", "magic"],
            &["--pid", "-1"],
            &["--format", "xml"],
            &["--listen", "9748"],
            &["--listen", "localhost"],
            &["run"],
            &["run", "dd"],
            &["-q", "-v"],
        ] {
            assert!(parse(words).is_err(), "{words:?}");
        }
    }
}
