//! The event loop of one run.

use std::{path::Path, process::ExitCode, time::Duration};

use anyhow::Context as _;
use stable_trace_analysis::{
    correlate::verdict::Limits,
    error_chain::ErrorChain,
    event::{Event, FORMAT, Start, Summary, Workload, WorkloadState},
};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

use super::{
    emitter::Emitter,
    ending::{Ending, Request},
    endpoint::{self, ListenOptions, MetricsEndpoint},
    outputs::{Destination, Outputs},
    privileges,
    scrape::WorkloadCounts,
    service_manager::ServiceManager,
    subject::{ChildEvent, RunningSubject, Subject, exit_code},
    tracer::{TraceConfig, Tracer},
};
use crate::{
    kernel::{devices, preemption, release::System},
    metrics::server::SnapshotRequest,
};

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
    pub(crate) open_outputs: Box<OpenOutputs>,
}

/// Opens outputs, which may ask for the kernel's counts.
type OpenOutputs = dyn FnOnce(mpsc::Sender<SnapshotRequest>) -> anyhow::Result<Vec<Destination>>;

/// Traces until the subject exits, the time is up, a signal arrives or the reader of the stream
/// closes it.
pub(crate) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let Options { config, subject, limits, listen, duration, fails, open_outputs } = options;
    // Before anything attaches, so that a signal from here on ends the run in order.
    let mut ending = Ending::listen()?;

    // Before anything attaches: an address that is taken ends the run here.
    let mut endpoint = MetricsEndpoint::start(&listen)?;
    let mut tracer = Tracer::attach(config)?;
    let outputs =
        Outputs::start(open_outputs(endpoint.requester())?).context("cannot start a thread")?;
    let mut emitter = Emitter::new(outputs, limits);
    let start = start_event(&tracer, limits, endpoint.url());
    emitter.emit_now(Event::Start(start));
    emitter.flush();
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
    ending.set_duration(duration);
    // Whether the records are left in the ring for a while.
    let mut waits_for_output = false;
    // The reader has seen enough: that is no failure.
    let mut reader_closed = false;

    loop {
        let end_requested = tokio::select! {
            request = ending.requested() => {
                if request == Request::Reload {
                    endpoint.reload();
                }
                request == Request::End
            }
            event = subject.next() => match event? {
                ChildEvent::Workload { time, workload } => {
                    emitter.emit_reported(time, Event::Workload(workload.clone()));
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
            readable = tracer.readable(), if !waits_for_output => {
                readable?;
                false
            }
            request = endpoint.scrape_request() => {
                scrape_request = Some(request);
                false
            }
            _ = poll.tick() => false,
        };
        reader_closed |= emitter.outputs().reader_closed();
        if end_requested || reader_closed {
            if !subject.is_running() {
                break;
            }
            // The loop traces on until the subject has exited.
            subject.terminate();
        }
        waits_for_output = emitter.outputs().are_behind() && tracer.can_leave_records();
        let drained = !waits_for_output && {
            let more = tracer.drain(&mut emitter);
            if more {
                // The readiness notification is consumed: poll for the rest.
                poll.reset_immediately();
            }
            !more
        };
        tracer.tick(&mut emitter);
        if drained {
            emitter.emit_due_verdicts();
        }
        emitter.flush();
        manager.ring_was_read(&tracer);
        if let Some(request) = scrape_request.take() {
            let lost = emitter.outputs().lost();
            endpoint::answer(request, || tracer.snapshot(&workload_counts, emitter.tally(), lost));
        }
    }

    manager.stopping();
    let mut summary = tracer.finish(&mut emitter)?;
    summary.workload = Workload::sum(&finished_workloads).map(Box::new);
    let failed = fails(&summary);
    emitter.emit_now(Event::Summary(summary));
    emitter.outputs().finish();
    if reader_closed {
        return Ok(ExitCode::SUCCESS);
    }
    let status = exit_status.map_or(0, exit_code);
    Ok(ExitCode::from(if status == 0 && failed { FAIL_ON_STATUS } else { status }))
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
