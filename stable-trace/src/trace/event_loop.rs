//! The event loop of one run.

use std::{io, path::Path, process::ExitCode, time::Duration};

use anyhow::Context as _;
use stable_trace_analysis::{
    correlate::verdict::Limits,
    error_chain::ErrorChain,
    event::{Event, FORMAT, Start, Summary, Workload, WorkloadState},
    sink::{EventSink, reader_is_open},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

use super::{
    emitter::Emitter,
    endpoint::{self, ListenOptions, MetricsEndpoint},
    privileges,
    scrape::WorkloadCounts,
    service_manager::ServiceManager,
    subject::{ChildEvent, RunningSubject, Subject, exit_code},
    summary::FinishError,
    tracer::{TraceConfig, Tracer},
};
use crate::kernel::{devices, preemption, release::System};

/// How often the ring is read while the kernel does not report that it fills up.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Exit status of a run that met `--fail-on`.
const FAIL_ON_STATUS: u8 = 4;

/// How to trace, what to trace, and where the results go.
pub(crate) struct Options {
    pub(crate) config: TraceConfig,
    pub(crate) subject: Subject,
    /// Limits of the correlation of stalls with integrity errors.
    pub(crate) limits: Limits,
    pub(crate) listen: ListenOptions,
    /// `--duration`: the run ends by itself after this time.
    pub(crate) duration: Option<Duration>,
    /// `--fail-on`: whether a run with this summary exits with status 4.
    pub(crate) fails: Box<dyn Fn(&Summary) -> bool>,
    /// Opens the outputs (`-o`, `--record`). Called after the probes are attached, so that a run
    /// that cannot start does not overwrite the file of an earlier one.
    pub(crate) open_sink: Box<dyn FnOnce() -> anyhow::Result<Box<dyn EventSink>>>,
}

/// Traces until the subject exits, the time is up, a signal arrives or the reader of the stream
/// closes it.
pub(crate) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let Options { config, subject, limits, listen, duration, fails, open_sink } = options;
    // Before anything attaches, so that a signal from here on ends the run in order.
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot handle SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot handle SIGTERM")?;

    // Before anything attaches: an address that is taken ends the run here.
    let mut endpoint = MetricsEndpoint::start(&listen)?;
    let mut tracer = Tracer::attach(config)?;
    let mut emitter = Emitter::new(open_sink()?, limits);
    let start = start_event(&tracer, limits, endpoint.url());
    let written = emitter.emit_now(Event::Start(start)).and_then(|()| emitter.flush());
    if !stream_is_open(written)? {
        return Ok(ExitCode::SUCCESS);
    }
    let mut subject = tracer
        .follow_children(|| RunningSubject::start(subject))
        .context("cannot follow the command")??;
    privileges::give_up(subject.is_running());
    let mut exit_status = None;
    let mut finished_workloads = Vec::new();
    let mut workload_counts = WorkloadCounts::default();
    let mut scrape_request = None;
    endpoint.set_ready();
    let mut manager = ServiceManager::notify_ready(&tracer);
    let mut poll = interval(POLL_INTERVAL);
    poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let deadline = duration.and_then(|duration| Instant::now().checked_add(duration));
    let mut subject_terminated = false;

    loop {
        let shutdown_requested = tokio::select! {
            _ = interrupt.recv() => true,
            _ = terminate.recv() => true,
            () = wait_until(deadline), if !subject_terminated => true,
            event = subject.next() => match event? {
                ChildEvent::Workload { time, workload } => {
                    let event = Event::Workload(workload.clone());
                    if !stream_is_open(emitter.emit_reported(time, event))? {
                        return abandon(subject).await;
                    }
                    workload_counts.observe(&workload);
                    if workload.state == WorkloadState::Finished {
                        finished_workloads.push(workload);
                    }
                    false
                }
                ChildEvent::Exited(status) => {
                    exit_status = Some(status);
                    break;
                }
                ChildEvent::Ignored => false,
            },
            readable = tracer.readable() => {
                readable?;
                false
            }
            request = endpoint.scrape_request() => {
                scrape_request = Some(request);
                false
            }
            _ = poll.tick() => false,
        };
        if shutdown_requested {
            if !subject.is_running() {
                break;
            }
            // The loop traces on until the subject has exited.
            subject.terminate();
            subject_terminated = true;
        }
        let written = tracer
            .drain(&mut emitter)
            .and_then(|more| {
                if more {
                    // The readiness notification is consumed: poll for the rest.
                    poll.reset_immediately();
                    tracer.tick(&mut emitter)
                } else {
                    tracer.tick(&mut emitter).and_then(|()| emitter.emit_due_verdicts())
                }
            })
            .and_then(|()| emitter.flush());
        if !stream_is_open(written)? {
            return abandon(subject).await;
        }
        manager.ring_was_read(&tracer);
        if let Some(request) = scrape_request.take() {
            endpoint::answer(request, || tracer.snapshot(&workload_counts, emitter.tally()));
        }
    }

    manager.stopping();
    let mut failed = false;
    let written = match tracer.finish(&mut emitter) {
        Ok(mut summary) => {
            summary.workload = Workload::sum(&finished_workloads).map(Box::new);
            failed = fails(&summary);
            emitter.emit_now(Event::Summary(summary)).and_then(|()| emitter.flush())
        }
        Err(FinishError::Write(error)) => Err(error),
        Err(error @ FinishError::Map(_)) => return Err(error.into()),
    };
    stream_is_open(written)?;
    let status = exit_status.map_or(0, exit_code);
    Ok(ExitCode::from(if status == 0 && failed { FAIL_ON_STATUS } else { status }))
}

/// Ends a run whose stream has no reader: terminates the subject and waits for it.
async fn abandon(mut subject: RunningSubject) -> anyhow::Result<ExitCode> {
    subject.terminate();
    while subject.is_running() {
        subject.next().await?;
    }
    Ok(ExitCode::SUCCESS)
}

fn stream_is_open(written: io::Result<()>) -> anyhow::Result<bool> {
    reader_is_open(written).context("cannot write the stream")
}

async fn wait_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn start_event(tracer: &Tracer, limits: Limits, metrics: Option<String>) -> Start {
    let system = System::read();
    let devices = devices::list(Path::new("/sys"), system.version()).unwrap_or_else(|error| {
        log::warn!("{}", ErrorChain(&error));
        Vec::new()
    });
    Start {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        kernel: system.release,
        arch: system.machine,
        hostname: system.hostname,
        preemption: Some(preemption::read()),
        min_latency_ns: Some(tracer.min_latency_ns),
        window_ns: u64::try_from(limits.window.as_nanos()).ok(),
        probes: tracer.probes(),
        devices,
        // The programs filter no unstable write that a verdict rests on.
        filtered: false,
        scope: tracer.scope.clone(),
        only_devices: tracer.enricher.identities.selected_devices().to_vec(),
        metrics,
    }
}
