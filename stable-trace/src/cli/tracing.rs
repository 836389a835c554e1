//! The commands that trace: from options to a run.

use std::{
    fs::File,
    io::{self, BufWriter, IsTerminal as _, Write},
    path::Path,
    process::ExitCode,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use anyhow::{Context as _, bail};
use rustix::termios::tcgetwinsize;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use stable_trace_analysis::{
    correlate::verdict::Limits,
    event::Probe,
    recording::Recorder,
    sink::{
        EventSink,
        json::Json,
        style::Style,
        tee::Tee,
        text::{Text, Width},
    },
};

use super::options::{
    Color, DoctorArgs, Format, ListenAt, RunArgs, TraceArgs, TracedWacArgs, TracingArgs,
};
use crate::{
    doctor,
    experiment::{self, ExperimentArgs},
    kernel::{
        devices::resolve_device, privileges::Privileges, release::System, symbols::Symbols,
        tracefs::with_tracefs,
    },
    probes::{load::Settings, plan::plan},
    trace::{
        self, Options,
        endpoint::{self, Listen},
        filter,
        subject::Subject,
        tracer::{TraceConfig, gather},
    },
};

/// The room for records that are written but not read, before the writer is called.
const BUFFER_BYTES: usize = 64 << 10;

/// `stable-trace` and `stable-trace trace`.
pub fn trace(args: &TraceArgs, color: Color) -> anyhow::Result<ExitCode> {
    start(&args.tracing, color, args.duration, Subject::Watch)
}

/// `stable-trace run`.
pub fn run(args: RunArgs, color: Color) -> anyhow::Result<ExitCode> {
    let subject = Subject::Command(args.command);
    start(&args.tracing, color, args.duration, subject)
}

/// `stable-trace wac`.
pub fn wac(args: Box<TracedWacArgs>, color: Color, quiet: bool) -> anyhow::Result<ExitCode> {
    let TracedWacArgs { wac, tracing, .. } = *args;
    start(&tracing, color, None, Subject::Workload { args: wac, quiet })
}

/// `stable-trace experiment`.
pub fn experiment(args: &ExperimentArgs, quiet: bool) -> anyhow::Result<ExitCode> {
    Privileges::read()?.require(System::read().version())?;
    let told = end_at_once_if_told_twice(&[SIGHUP, SIGINT, SIGTERM])?;
    if args.clean {
        experiment::runner::clean()?;
    } else {
        experiment::runner::run(args, quiet, &told)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// `stable-trace doctor`.
pub fn doctor(args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let report = doctor::examine(&probes());
    let mut out = io::stdout().lock();
    let written = match args.format {
        Format::Json => serde_json::to_writer(&mut out, &report)
            .map_err(io::Error::from)
            .and_then(|()| writeln!(out)),
        Format::Text => {
            write!(out, "{}", report.to_text())
        }
    };
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("the report cannot be written")
        }
        _ if report.can_trace() => Ok(ExitCode::SUCCESS),
        _ => Ok(ExitCode::FAILURE),
    }
}

/// `stable-trace facts`.
pub fn facts() -> anyhow::Result<ExitCode> {
    let symbols = Symbols::load()?;
    let facts = with_tracefs(|tracefs| gather(tracefs, &symbols, None))?;
    let text = serde_json::to_string_pretty(&facts).context("the facts cannot be written")?;
    writeln!(io::stdout(), "{text}").context("the facts cannot be written")?;
    Ok(ExitCode::SUCCESS)
}

/// What would attach here. Where even the symbols cannot be read there is no plan, and the report
/// says that they are missing.
fn probes() -> Vec<Probe> {
    let facts = Symbols::load().map_err(|error| error.to_string()).and_then(|symbols| {
        with_tracefs(|tracefs| gather(tracefs, &symbols, None)).map_err(|error| error.to_string())
    });
    match facts {
        Ok(facts) => plan(&facts, None).probes(),
        Err(reason) => doctor::tracepoint_plan("folio_wait_writeback")
            .into_iter()
            .map(|probe| Probe { reason: Some(reason.clone()), ..probe })
            .collect(),
    }
}

fn start(
    args: &TracingArgs,
    color: Color,
    duration: Option<Duration>,
    subject: Subject,
) -> anyhow::Result<ExitCode> {
    let config = config(args)?;
    let limits = limits(args)?;
    Privileges::read()?.require(System::read().version())?;
    let fail_on = args.fail_on;
    let fails = Box::new(move |seen: &_| fail_on.is_some_and(|fail_on| fail_on.is_met(seen)));
    let (format, output, record) = (args.format, args.output.clone(), args.record.clone());
    let open = Box::new(move || {
        let form = form(format, output.as_deref(), color)?;
        let Some(path) = record else { return Ok(form) };
        let recorder = Recorder::create(&path)
            .with_context(|| format!("--record {}: the file cannot be written", path.display()))?;
        Ok(Box::new(Tee::new(vec![Box::new(recorder), form])) as Box<dyn EventSink>)
    });
    end_at_once_if_told_twice(&[SIGINT, SIGTERM])?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime cannot start")?;
    let listen = listen(args);
    runtime.block_on(trace::run(Options { config, subject, limits, listen, duration, fails, open }))
}

/// Checks what the user asked for, before anything is touched.
fn config(args: &TracingArgs) -> anyhow::Result<TraceConfig> {
    let disks = args
        .devices
        .iter()
        .map(|device| resolve_device(Path::new("/sys"), device))
        .map(|disk| disk.map(|disk| disk.dev))
        .collect::<Result<Vec<_>, _>>()
        .context("--device")?;
    let settings = Settings {
        ring_bytes: ring_bytes(args.ring_size)?,
        min_latency_ns: u64::try_from(args.min_latency.as_nanos())
            .context("--min-latency: longer than any stall can be")?,
        pid: args.pid.map(filter::pid).transpose()?,
        comm: args.comm.as_deref().map(filter::comm).transpose()?,
        cgroup: args.cgroup.as_deref().map(filter::cgroup).transpose()?,
        only_devices: !disks.is_empty(),
        harmless: args.harmless,
        statistics: !args.no_program_statistics,
    };
    if let Some(path) = &args.btf {
        // An empty or foreign file disables what needs it; one that is not there is a mistake.
        File::open(path).with_context(|| format!("--btf {}", path.display()))?;
    }
    Ok(TraceConfig {
        settings,
        method: args.attach.method(),
        disks,
        stacks: args.stacks,
        btf: args.btf.clone(),
    })
}

/// How far the verdicts look.
fn limits(args: &TracingArgs) -> anyhow::Result<Limits> {
    Ok(Limits { window: window(args.window)?, ..Limits::default() })
}

/// `--window`, within what can be looked at.
pub fn window(window: Duration) -> anyhow::Result<Duration> {
    let longest = Duration::from_hours(1);
    if window.is_zero() || window > longest {
        bail!("--window {window:?}: give a time above 0 and up to 1h");
    }
    Ok(window)
}

fn listen(args: &TracingArgs) -> Listen {
    let (address, asked_for) = match args.listen {
        None => (Some(endpoint::DEFAULT), false),
        Some(ListenAt::Off) => (None, true),
        Some(ListenAt::Address(address)) => (Some(address), true),
    };
    Listen { address, asked_for, web_config: args.web_config.clone() }
}

/// The kernel wants a power of two, and whole pages (`ringbuf_map_alloc`, kernel/bpf/ringbuf.c).
fn ring_bytes(wanted: u64) -> anyhow::Result<u32> {
    const MOST: u64 = 1 << 30;
    if wanted > MOST {
        bail!("--ring-size {wanted}: the ring buffer can have at most 1GiB");
    }
    let page = rustix::param::page_size() as u64;
    Ok(u32::try_from(wanted.max(page).next_power_of_two())?)
}

pub fn form(
    format: Format,
    output: Option<&Path>,
    color: Color,
) -> anyhow::Result<Box<dyn EventSink>> {
    let (out, terminal): (Box<dyn Write>, bool) = match output {
        Some(path) => {
            let file = File::create(path)
                .with_context(|| format!("-o {}: the file cannot be written", path.display()))?;
            (Box::new(file), false)
        }
        None => (Box::new(io::stdout()), io::stdout().is_terminal()),
    };
    let out = BufWriter::with_capacity(BUFFER_BYTES, out);
    Ok(match format {
        Format::Json => Box::new(Json::new(out)),
        Format::Text => {
            let width = if terminal { Width::Terminal(terminal_width) } else { Width::Unlimited };
            Box::new(Text::new(out, Style { color: color.on(terminal) }, width))
        }
    })
}

/// The width of the terminal on stdout in cells.
fn terminal_width() -> Option<usize> {
    let size = tcgetwinsize(io::stdout()).ok()?;
    // A terminal that does not know its size reports 0.
    (size.ws_col > 0).then_some(usize::from(size.ws_col))
}

/// The first of these signals ends a run in order, and sets what this returns; the second one ends
/// the process there and then, whatever it hangs on. The kernel detaches what it leaves behind.
pub fn end_at_once_if_told_twice(signals: &[i32]) -> anyhow::Result<Arc<AtomicBool>> {
    let told = Arc::new(AtomicBool::new(false));
    for &signal in signals {
        // In this order: the first signal finds the flag unset, and sets it.
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&told))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&told)))
            .context("signals cannot be watched")?;
    }
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_is_a_power_of_two_pages() {
        let page = u32::try_from(rustix::param::page_size()).unwrap();
        assert_eq!(ring_bytes(0).unwrap(), page);
        assert_eq!(ring_bytes(u64::from(page) + 1).unwrap(), 2 * page);
        assert_eq!(ring_bytes(2 << 20).unwrap(), 2 << 20);
        assert!(ring_bytes(1 << 40).is_err());
    }
}
