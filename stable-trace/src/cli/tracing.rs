//! The commands that need the kernel: turns options into a run.

use std::{
    fs::File,
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use stable_trace_analysis::{
    correlate::verdict::Limits, error_chain::ErrorChain, event::Probe, sink::reader_is_open,
};

use super::{
    options::{
        Color, DoctorArgs, Format, Label, ListenAddress, RunArgs, ScopeArgs, TraceArgs,
        TracedWacArgs, TracingArgs,
    },
    output::{open_recording, open_stdout, open_stream},
    signals::exit_on_second_signal,
    stderr,
};
use crate::{
    doctor,
    experiment::{self, ExperimentArgs},
    kernel::{
        devices::{any_checks, resolve_device},
        pid_namespace,
        privileges::Privileges,
        release::System,
        symbols::Symbols,
        tracefs::with_tracefs,
    },
    probes::{
        load::{Scope, Settings},
        plan::plan,
    },
    top,
    trace::{
        self, EvidenceFiles, Options,
        endpoint::{self, ListenOptions},
        filter,
        setup::gather,
        subject::Subject,
        tracer::TraceConfig,
    },
};

/// `stable-trace` and `stable-trace trace`.
pub(super) fn trace(args: &TraceArgs, color: Color) -> anyhow::Result<ExitCode> {
    start(&args.tracing, Scope::Everybody, color, args.duration, Subject::Machine, View::Stream)
}

/// `stable-trace run`.
pub(super) fn run(args: RunArgs, color: Color) -> anyhow::Result<ExitCode> {
    let subject = Subject::Command(args.command);
    let scope = args.scope.of_command();
    start(&args.tracing, scope, color, args.duration, subject, View::Stream)
}

/// `stable-trace wac`.
pub(super) fn wac(args: Box<TracedWacArgs>, color: Color, quiet: bool) -> anyhow::Result<ExitCode> {
    let TracedWacArgs { wac, tracing, scope, .. } = *args;
    let subject = Subject::Workload { args: wac, quiet };
    start(&tracing, scope.of_command(), color, None, subject, View::Stream)
}

/// `stable-trace experiment`.
pub(super) fn experiment(args: &ExperimentArgs, quiet: bool) -> anyhow::Result<ExitCode> {
    Privileges::read()?.require(System::read().version())?;
    let interrupted = exit_on_second_signal(&[SIGHUP, SIGINT, SIGTERM])?;
    if args.clean {
        experiment::runner::clean()?;
    } else {
        experiment::runner::run(args, quiet, &interrupted)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// `stable-trace doctor`.
pub(super) fn doctor(args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let report = doctor::examine(&planned_probes());
    let mut out = io::stdout().lock();
    let written = match args.format {
        Format::Json => serde_json::to_writer(&mut out, &report)
            .map_err(io::Error::from)
            .and_then(|()| writeln!(out)),
        Format::Text => write!(out, "{}", doctor::to_text(&report)),
    };
    // A closed pipe does not change the exit status.
    reader_is_open(written).context("cannot write the report")?;
    Ok(if report.can_trace() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// `stable-trace facts`.
pub(super) fn facts() -> anyhow::Result<ExitCode> {
    let symbols = Symbols::load()?;
    let facts = with_tracefs(|tracefs| gather(tracefs, &symbols, None))?;
    let text = serde_json::to_string_pretty(&facts).context("cannot write the facts")?;
    writeln!(io::stdout(), "{text}").context("cannot write the facts")?;
    Ok(ExitCode::SUCCESS)
}

/// The probes that a run would try to attach. Without symbols there is no plan: all probes of the
/// tracepoint method then have that reason.
fn planned_probes() -> Vec<Probe> {
    let facts =
        Symbols::load().map_err(|error| ErrorChain(&error).to_string()).and_then(|symbols| {
            with_tracefs(|tracefs| gather(tracefs, &symbols, None))
                .map_err(|error| ErrorChain(&error).to_string())
        });
    match facts {
        Ok(facts) => plan(&facts, None).probes(),
        Err(reason) => doctor::tracepoint_plan("folio_wait_writeback")
            .into_iter()
            .map(|probe| Probe { reason: Some(reason.clone()), ..probe })
            .collect(),
    }
}

impl ScopeArgs {
    /// The scope without a filter of tasks.
    const fn of_command(self) -> Scope {
        if self.all { Scope::Everybody } else { Scope::Command }
    }
}

/// What standard output shows of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    /// The stream, unless `-o` takes it.
    Stream,
    /// A live view, beside which `-o` takes the stream.
    Live,
}

/// Traces a subject. `scope` applies unless the options select tasks.
pub(super) fn start(
    args: &TracingArgs,
    scope: Scope,
    color: Color,
    duration: Option<Duration>,
    subject: Subject,
    view: View,
) -> anyhow::Result<ExitCode> {
    let config = trace_config(args, scope)?;
    let limits = Limits { window: checked_window(args.window)?, ..Limits::default() };
    Privileges::read()?.require(System::read().version())?;
    let fail_on = args.fail_on;
    let fails = Box::new(move |summary: &_| fail_on.is_some_and(|fail_on| fail_on.is_met(summary)));
    let (format, output, record) = (args.format, args.output.clone(), args.record.clone());
    let open_outputs = Box::new(move |snapshots| {
        let mut outputs = Vec::new();
        if view == View::Stream || output.is_some() {
            outputs.push(open_stream(format, output.as_deref(), color)?);
        }
        outputs.extend(record.as_deref().map(open_recording).transpose()?);
        // Last: an error before it is shown on a terminal as it was.
        if view == View::Live {
            let summary = open_stdout(Format::Text, color);
            let colors = color.is_enabled(true);
            outputs.push(top::open(summary, snapshots, colors).context("cannot use the terminal")?);
        }
        Ok(outputs)
    });
    exit_on_second_signal(&[SIGINT, SIGTERM])?;
    stderr::start_thread();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    let listen = listen_options(args);
    runtime.block_on(trace::run(Options {
        config,
        subject,
        limits,
        listen,
        duration,
        fails,
        open_outputs,
    }))
}

/// Checks the options before anything attaches.
fn trace_config(args: &TracingArgs, scope: Scope) -> anyhow::Result<TraceConfig> {
    let devices = args
        .devices
        .iter()
        .map(|device| resolve_device(Path::new("/sys"), device))
        .collect::<Result<Vec<_>, _>>()
        .context("--device")?;
    let settings = Settings {
        ring_bytes: ring_bytes(args.ring_size)?,
        min_latency_ns: u64::try_from(args.min_latency.as_nanos())
            .context("--min-latency: too long")?,
        scope: match args.pid {
            Some(pid) => Scope::Process(filter::pid(pid)?),
            None if args.comm.is_some() || args.cgroup.is_some() => Scope::Everybody,
            None => scope,
        },
        pid_namespace: pid_namespace::nested(),
        comm: args.comm.as_deref().map(filter::comm).transpose()?,
        cgroup: args.cgroup.as_deref().map(filter::cgroup).transpose()?,
        only_devices: !devices.is_empty(),
        harmless: args.harmless,
        label_cgroup: labels_cgroup(args)?,
        stacks: args.stacks,
        takes_evidence: any_checks(Path::new("/sys")),
        statistics: !args.no_program_statistics,
    };
    if let Some(path) = &args.btf {
        // A missing file is an error. Invalid content only disables the probes that need it.
        File::open(path)
            .with_context(|| format!("--btf {}: cannot open the file", path.display()))?;
    }
    let evidence = args.keep_evidence.as_deref().map(|folder| {
        EvidenceFiles::new(folder).with_context(|| {
            format!("--keep-evidence {}: give a folder that exists", folder.display())
        })
    });
    Ok(TraceConfig {
        settings,
        method: args.attach.method(),
        devices,
        btf: args.btf.clone(),
        evidence: evidence.transpose()?,
        stuck_after: args.stuck_after,
    })
}

/// Checks `--label`.
fn labels_cgroup(args: &TracingArgs) -> anyhow::Result<bool> {
    let wanted = args.labels.contains(&Label::Cgroup);
    if wanted {
        filter::cgroup_label()?;
    }
    Ok(wanted)
}

/// Checks `--window`.
pub(super) fn checked_window(window: Duration) -> anyhow::Result<Duration> {
    let longest = Duration::from_hours(1);
    if window.is_zero() || window > longest {
        bail!("--window {window:?}: give a time above 0 and up to 1h");
    }
    Ok(window)
}

fn listen_options(args: &TracingArgs) -> ListenOptions {
    let (address, explicit) = match args.listen {
        None => (Some(endpoint::DEFAULT_ADDRESS), false),
        Some(ListenAddress::Off) => (None, true),
        Some(ListenAddress::Address(address)) => (Some(address), true),
    };
    ListenOptions { address, explicit, web_config: args.web_config.clone() }
}

/// The kernel requires a power of two and whole pages (`ringbuf_map_alloc`, kernel/bpf/ringbuf.c).
fn ring_bytes(requested: u64) -> anyhow::Result<u32> {
    const MAX: u64 = 1 << 30;
    if requested > MAX {
        bail!("--ring-size {requested}: the ring buffer can have at most 1GiB");
    }
    let page = rustix::param::page_size() as u64;
    Ok(u32::try_from(requested.max(page).next_power_of_two())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_size_is_a_power_of_two_pages() {
        let page = u32::try_from(rustix::param::page_size()).unwrap();
        assert_eq!(ring_bytes(0).unwrap(), page);
        assert_eq!(ring_bytes(u64::from(page) + 1).unwrap(), 2 * page);
        assert_eq!(ring_bytes(2 << 20).unwrap(), 2 << 20);
        assert!(ring_bytes(1 << 40).is_err());
    }
}
