//! Commands and options. Help, completions and the man page are generated from them.

use std::{ffi::OsString, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use stable_trace_analysis::{
    event::{Grade, Summary},
    units::{parse_duration, parse_size},
};

use crate::{experiment::ExperimentArgs, trace::AttachMode, workload::WacArgs};

const GLOBAL_HEADING: &str = "Global options";

/// Trace writeback stalls and block-integrity failures
///
/// Shows which task waits for writeback, on which file and device, for how long and why, and what
/// caused an integrity error. Without a command, traces until Ctrl-C and then prints the summary.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    /// Options of `trace`.
    #[command(flatten)]
    pub(crate) trace: TraceArgs,

    #[command(flatten)]
    pub(crate) verbosity: Verbosity,

    /// Choose when to use colours
    ///
    /// `auto` uses colours on a terminal, unless `NO_COLOR` is set.
    #[arg(
        long,
        value_enum,
        value_name = "WHEN",
        default_value_t,
        global = true,
        help_heading = GLOBAL_HEADING
    )]
    pub(crate) color: Color,
}

#[derive(Args, Debug)]
#[command(next_help_heading = GLOBAL_HEADING)]
pub(crate) struct Verbosity {
    /// Print more messages on stderr (repeatable)
    ///
    /// Given twice, it also prints the messages of the eBPF programs.
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub(crate) verbose: u8,

    /// Print only errors on stderr
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Trace until Ctrl-C, then print the summary (default)
    ///
    /// SIGTERM and --duration end it as well.
    Trace(TraceArgs),
    /// Trace one command, and exit with its status
    ///
    /// A command that a signal ends gives the status 128 plus the signal number.
    Run(RunArgs),
    /// Trace the paired workload
    ///
    /// The workload (write after checksum) rewrites the same pages as fast as possible, so that
    /// writers wait for stable pages.
    Wac(Box<TracedWacArgs>),
    /// Measure the cost of stable pages
    ///
    /// Runs the same workload with stable writes on and off, alternating, and prints the ratio of the
    /// throughputs with its confidence interval.
    Experiment(Box<ExperimentArgs>),
    /// Check what this machine supports, and suggest remedies
    ///
    /// Checks the kernel, the block devices and your privileges, probe by probe. The exit status is 0
    /// if tracing can work, else 1.
    Doctor(DoctorArgs),
    /// Trace, and show a live view: devices, files, processes, findings
    ///
    /// Needs a terminal. Ends with `q` or Ctrl-C, and then prints the summary.
    Top(TraceArgs),
    /// Show every task that waits for writeback at this moment
    ///
    /// Also those that began to wait before, for which no tracing is needed: the state and the stack of every task
    /// tell. Only tasks of the PID namespace that it runs in.
    Stuck(StuckArgs),
    /// Show the summary and verdicts of a recording
    ///
    /// Needs no privileges.
    Report(ReportArgs),
    /// Work with a file of options
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print a shell completion script
    Completions {
        /// Choose the shell
        shell: clap_complete::Shell,
    },
    /// Print the man page
    Man,
    /// Print the kernel's facts, from which the probes are planned, as JSON
    #[command(hide = true)]
    Facts,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Check whether a file can be used with --config
    Check {
        /// Check this file
        file: PathBuf,
    },
}

#[derive(Args, Debug)]
pub(crate) struct TraceArgs {
    #[command(flatten)]
    pub(crate) tracing: TracingArgs,

    /// Stop after this time
    #[arg(long, value_name = "DUR", value_parser = parse_duration)]
    pub(crate) duration: Option<Duration>,
}

#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) tracing: TracingArgs,

    #[command(flatten)]
    pub(crate) scope: ScopeArgs,

    /// End the command and its processes after this time
    #[arg(long, value_name = "DUR", value_parser = parse_duration)]
    pub(crate) duration: Option<Duration>,

    /// Run this command, with its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

#[derive(Args, Debug)]
pub(crate) struct TracedWacArgs {
    #[command(flatten)]
    pub(crate) wac: WacArgs,

    /// Run the workload without tracing; needs no privileges
    #[arg(long)]
    pub(crate) no_trace: bool,

    #[command(flatten)]
    pub(crate) scope: ScopeArgs,

    #[command(flatten)]
    pub(crate) tracing: TracingArgs,
}

/// The option of the commands that start a process.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "Tracing")]
pub(crate) struct ScopeArgs {
    /// Trace the stalls of all processes
    ///
    /// The default is the command and its descendants, unless --pid, --comm or --cgroup is given.
    #[arg(short, long)]
    pub(crate) all: bool,
}

#[derive(Args, Debug)]
pub(crate) struct DoctorArgs {
    /// Choose the output format: text, or one JSON object
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub(crate) format: Format,
}

#[derive(Args, Debug)]
pub(crate) struct StuckArgs {
    /// Choose the output format: a table, or one `waiting` event a line
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub(crate) format: Format,

    /// Show the kernel stack of each task
    #[arg(long)]
    pub(crate) stacks: bool,

    /// Read the kernel's types from this file
    #[arg(long, value_name = "FILE")]
    pub(crate) btf: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct ReportArgs {
    /// Read this recording, compressed or not
    #[arg(value_name = "RECORDING")]
    pub(crate) recording: PathBuf,

    /// Also write an HTML report to this file
    ///
    /// The report is a single file without external resources.
    #[arg(long, value_name = "OUT")]
    pub(crate) html: Option<PathBuf>,

    /// Print stalled time by stack instead, for flame graphs
    ///
    /// A line a stack: the process, the frames from the outermost on, and the time in ns. Without stacks in the
    /// recording (`--stacks`), context and function stand for them.
    #[arg(long, conflicts_with_all = ["follow", "format"])]
    pub(crate) folded: bool,

    /// Also write a trace to this file, for Perfetto and Chrome
    ///
    /// Tasks are tracks, stalls are slices, and errors are instants.
    #[arg(long, value_name = "OUT")]
    pub(crate) trace_events: Option<PathBuf>,

    /// Follow a growing recording and show every line
    ///
    /// Ends at the summary of the recording, or at Ctrl-C.
    #[arg(long)]
    pub(crate) follow: bool,

    /// Choose the output format: text, or JSON lines
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub(crate) format: Format,

    /// Set another correlation window [default: as recorded]
    ///
    /// Stalls and unstable writes within this time before an integrity error count as evidence of
    /// its cause.
    #[arg(long, value_name = "DUR", value_parser = parse_duration)]
    pub(crate) window: Option<Duration>,
}

/// The options of every tracing command.
#[derive(Args, Debug)]
#[command(next_help_heading = "Tracing")]
pub(crate) struct TracingArgs {
    /// Read options from this file
    ///
    /// YAML, by the names of the flags: `min-latency: 10ms`. A flag wins, then a variable such as
    /// `STABLE_TRACE_MIN_LATENCY`, then the file.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Choose how probes attach
    ///
    /// `auto` uses the cheapest method that works here, for each probe.
    #[arg(long, value_enum, value_name = "METHOD", default_value_t)]
    pub(crate) attach: AttachMode,

    /// Trace only this block device (repeatable)
    ///
    /// A kernel name, or MAJOR:MINOR. A partition stands for its disk.
    #[arg(long = "device", value_name = "NAME")]
    pub(crate) devices: Vec<String>,

    /// Trace only this process and its descendants
    ///
    /// A pid of the caller's PID namespace.
    #[arg(long, value_name = "PID")]
    pub(crate) pid: Option<u32>,

    /// Trace only waiters with this thread or process name
    #[arg(long, value_name = "NAME")]
    pub(crate) comm: Option<String>,

    /// Trace only waiters in or below this cgroup (v2)
    #[arg(long, value_name = "PATH")]
    pub(crate) cgroup: Option<PathBuf>,

    /// Stream only stalls at least this long
    ///
    /// Histograms and counters include all stalls.
    #[arg(long, value_name = "DUR", default_value = "1ms", value_parser = parse_duration)]
    pub(crate) min_latency: Duration,

    /// Tell of a wait that lasts longer while it lasts
    ///
    /// The event `waiting` says which task waits for which page, and once more when it is over.
    #[arg(long, value_name = "DUR", default_value = "10s", value_parser = parse_duration)]
    pub(crate) stuck_after: Duration,

    /// Choose the stream format: text, or JSON lines
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub(crate) format: Format,

    /// Write the stream to this file [default: stdout]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,

    /// Record all events in this file, for `report`
    ///
    /// The recording includes the environment. It is compressed if the file name ends in `.zst`.
    #[arg(long, value_name = "FILE")]
    pub(crate) record: Option<PathBuf>,

    /// Serve metrics at IP:PORT, or `off` [default: 127.0.0.1:9748]
    ///
    /// Port 0 takes any free port.
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<ListenAddress>,

    /// Add a label to the metrics of processes
    ///
    /// `cgroup`: the path of the waiter's cgroup (v2).
    #[arg(long = "label", value_enum, value_name = "LABEL")]
    pub(crate) labels: Vec<Label>,

    /// Disable BPF run-time statistics (a system-wide overhead)
    ///
    /// With statistics, the kernel reads a clock twice for each run of every eBPF program on this
    /// machine while stable-trace runs. Without them, the CPU time of the programs is not known.
    #[arg(long)]
    pub(crate) no_program_statistics: bool,

    /// Load TLS and passwords from this file
    ///
    /// They protect the metrics. The format is the web configuration of Prometheus exporters
    /// (exporter-toolkit).
    #[arg(long, value_name = "FILE")]
    pub(crate) web_config: Option<PathBuf>,

    /// Keep data and protection information of failed checks in this folder
    ///
    /// The files are readable by the user of the agent only. They have contents of files.
    #[arg(long, value_name = "DIR")]
    pub(crate) keep_evidence: Option<PathBuf>,

    /// Show kernel stacks of streamed stalls
    #[arg(long)]
    pub(crate) stacks: bool,

    /// Also stream harmless unstable writes
    ///
    /// These are writes to pages whose device requires no stable pages and checks no integrity.
    #[arg(long)]
    pub(crate) harmless: bool,

    /// Exit with status 4 if such an event occurred
    ///
    /// If the command of `run` fails, its own status takes precedence.
    #[arg(long, value_enum, value_name = "WHAT")]
    pub(crate) fail_on: Option<FailOn>,

    /// Set the correlation window before an integrity error
    ///
    /// Stalls and unstable writes within this time before an integrity error count as evidence of
    /// its cause.
    #[arg(long, value_name = "DUR", default_value = "5s", value_parser = parse_duration)]
    pub(crate) window: Duration,

    /// Read kernel types (BTF) from this file
    ///
    /// The default is /sys/kernel/btf/vmlinux.
    #[arg(long, value_name = "FILE")]
    pub(crate) btf: Option<PathBuf>,

    /// Set the size of the ring buffer
    ///
    /// The buffer carries records from the kernel to the agent. The size is rounded up to a power-of-two number of pages.
    #[arg(long, value_name = "SIZE", default_value = "2MiB", value_parser = parse_size)]
    pub(crate) ring_size: u64,
}

/// `--listen`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ListenAddress {
    Off,
    Address(SocketAddr),
}

impl FromStr for ListenAddress {
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

/// `--label`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Label {
    /// The path of the waiter's cgroup (v2)
    Cgroup,
}

/// `--fail-on`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FailOn {
    /// An integrity error
    Integrity,
    /// An unstable write that is not harmless
    UnstableWrite,
    /// Any of these
    Any,
}

impl FailOn {
    /// Whether such an event occurred, streamed or not.
    pub(crate) fn is_met(self, summary: &Summary) -> bool {
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

/// `--format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Text for people
    #[default]
    Text,
    /// JSON, one object a line
    Json,
}

/// `--color`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
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
    fn the_command_definition_is_valid() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn the_help_of_each_option_is_one_short_line() {
        let mut cli = <Cli as clap::CommandFactory>::command();
        cli.build();
        for command in std::iter::once(&cli).chain(cli.get_subcommands()) {
            for arg in command.get_arguments() {
                let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
                assert!(!help.is_empty(), "{} {}", command.get_name(), arg.get_id());
                assert!(help.len() <= 72 && !help.contains('\n') && !help.ends_with('.'), "{help}");
            }
        }
    }

    #[test]
    fn the_default_command_is_trace() {
        let cli = parse(&["--device", "sda", "--device", "8:16", "--min-latency", "0"]).unwrap();
        assert!(cli.command.is_none());
        assert_eq!(cli.trace.tracing.devices, ["sda", "8:16"]);
        assert_eq!(cli.trace.tracing.min_latency, Duration::ZERO);
    }

    #[test]
    fn options_after_the_separator_belong_to_the_command() {
        let cli = parse(&["run", "--format", "json", "-q", "--", "dd", "--help", "-v"]).unwrap();
        let Some(Command::Run(args)) = cli.command else { panic!("{cli:?}") };
        assert_eq!(args.command, ["dd", "--help", "-v"]);
        assert!(cli.verbosity.quiet);
    }

    #[test]
    fn invalid_values_are_refused() {
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
