//! The loop of a run.

use std::{io, path::Path, process::ExitCode, time::Duration};

use anyhow::Context as _;
use stable_trace_analysis::{
    correlate::verdict::Limits,
    event::{Event, FORMAT, Start, Summary, Workload, WorkloadState},
    sink::EventSink,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

use super::{
    emitter::Emitter,
    endpoint::{self, Scrapes},
    scrape::Workloads,
    subject::{ChildEvent, Running, Subject, exit_code},
    summary::FinishError,
    tracer::{TraceConfig, Tracer},
};
use crate::kernel::{devices, preemption, release::System};

/// How often the ring is looked at when the kernel does not say that much is in it.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What a run needs to know.
pub struct Options {
    /// What is traced.
    pub config: TraceConfig,
    /// What it is around.
    pub subject: Subject,
    /// How far the verdicts look.
    pub limits: Limits,
    /// Where metrics are served.
    pub listen: endpoint::Listen,
    /// When it ends by itself.
    pub duration: Option<Duration>,
    /// Whether what a run has seen makes it fail (`--fail-on`).
    pub fails: Box<dyn Fn(&Summary) -> bool>,
    /// Opens what the emitter goes to. Called once everything is attached: a run that cannot be
    /// leaves the file of an earlier one as it is.
    pub open: Box<dyn FnOnce() -> anyhow::Result<Box<dyn EventSink>>>,
}

/// Runs until the subject ends, the time is up, a signal comes or nobody reads any more.
///
/// # Errors
/// Nothing could attach, the command could not be started, or the emitter could not be written.
pub async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let Options { config, subject, limits, listen, duration, fails, open } = options;
    // Before anything attaches: from here on a signal ends the run in order.
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be watched")?;
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be watched")?;

    // Before anything attaches, too: an address that cannot be had ends the run here.
    let mut scrapes = Scrapes::listen(&listen)?;
    let mut tracer = Tracer::attach(&config)?;
    let mut emitter = Emitter::new(open()?, limits);
    let start = start(&tracer, limits, scrapes.url());
    let outcome = emitter.now(Event::Start(start)).and_then(|()| emitter.flush());
    if !still_read(outcome)? {
        return Ok(ExitCode::SUCCESS);
    }
    let mut subject = Running::start(subject)?;
    let mut status = None;
    let mut workloads = Vec::new();
    let mut doing = Workloads::default();
    let mut question = None;
    scrapes.ready();
    let mut look = interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let end = duration.and_then(|duration| Instant::now().checked_add(duration));
    let mut ending = false;

    loop {
        let told_to_end = tokio::select! {
            _ = interrupt.recv() => true,
            _ = terminate.recv() => true,
            () = until(end), if !ending => true,
            event = subject.next() => match event? {
                ChildEvent::Reports { time, workload } => {
                    if !still_read(emitter.reported(time, Event::Workload(workload.clone())))? {
                        return leave(subject).await;
                    }
                    doing.hear(&workload);
                    if workload.state == WorkloadState::Finished {
                        workloads.push(workload);
                    }
                    false
                }
                ChildEvent::Ended(ended) => {
                    status = Some(ended);
                    break;
                }
                ChildEvent::Nothing => false,
            },
            readable = tracer.readable() => {
                readable?;
                false
            }
            asked = scrapes.asked() => {
                question = Some(asked);
                false
            }
            _ = look.tick() => false,
        };
        if told_to_end {
            if !subject.is_running() {
                break;
            }
            // What it does until it has ended is traced as well.
            subject.tell_to_end();
            ending = true;
        }
        let outcome = tracer
            .drain(&mut emitter)
            .and_then(|more| {
                // The edge has been taken: what a batch leaves behind must be asked for.
                if more {
                    look.reset_immediately();
                    tracer.tick(&mut emitter)
                } else {
                    tracer.tick(&mut emitter).and_then(|()| emitter.settle())
                }
            })
            .and_then(|()| emitter.flush());
        if !still_read(outcome)? {
            return leave(subject).await;
        }
        if let Some(question) = question.take() {
            endpoint::answer(question, || tracer.snapshot(&doing, emitter.tally()));
        }
    }

    let mut failed = false;
    let summed = tracer.finish(&mut emitter);
    let outcome = match summed {
        Ok(mut summary) => {
            summary.workload = Workload::sum(&workloads).map(Box::new);
            failed = fails(&summary);
            emitter.now(Event::Summary(summary)).and_then(|()| emitter.flush())
        }
        Err(FinishError::Write(error)) => Err(error),
        Err(error @ FinishError::Map(_)) => return Err(error.into()),
    };
    still_read(outcome)?;
    let own = status.map_or(0, exit_code);
    Ok(ExitCode::from(if own == 0 && failed { FAIL_ON } else { own }))
}

/// Exit status of a run that has seen what `--fail-on` names.
const FAIL_ON: u8 = 4;

/// Ends without another word: nobody reads it. The subject is told, and waited for.
async fn leave(mut subject: Running) -> anyhow::Result<ExitCode> {
    subject.tell_to_end();
    while subject.is_running() {
        subject.next().await?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether somebody still reads. A closed pipe is a reader that has seen enough, not an error.
fn still_read(outcome: io::Result<()>) -> anyhow::Result<bool> {
    match outcome {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error).context("the stream cannot be written"),
    }
}

async fn until(end: Option<Instant>) {
    match end {
        Some(end) => sleep_until(end).await,
        None => std::future::pending().await,
    }
}

fn start(tracer: &Tracer, limits: Limits, metrics: Option<String>) -> Start {
    let system = System::read();
    let devices = devices::list(Path::new("/sys"), system.version()).unwrap_or_else(|error| {
        log::warn!("{error}");
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
        filtered: tracer.filtered,
        only_devices: tracer.enricher.identities.selected_disks().to_vec(),
        metrics,
    }
}
