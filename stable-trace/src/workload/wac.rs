//! Runs a plan in this process: profile after profile, workers as threads, counts once a second.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use stable_trace_analysis::event::{Workload, WorkloadState};

use super::counters::{Counters, ModeTotals};
use super::device::{self, Claim};
use super::error::WorkloadError;
use super::plan::{Plan, Target};
use super::profile::{Mode, Profile};
use super::region::Region;
use super::rng::Rng;
use super::scratch::Scratch;
use super::start_barrier::StartBarrier;
use super::stop_condition::StopCondition;
use super::worker::{Worker, scribble};

/// How often `progress` comes.
const PROGRESS: Duration = Duration::from_secs(1);

/// How late a stop may be noticed.
const TICK: Duration = Duration::from_millis(20);

/// A worker's loop keeps no more than a few words.
const STACK: usize = 128 << 10;

/// What one profile did, mode by mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The profile.
    pub profile: Profile,
    /// Its final counts.
    pub totals: ModeTotals,
    /// From the start barrier to the last worker's end.
    pub elapsed: Duration,
}

/// Runs the profiles of `plan` one after the other until they are done or `stop` is true, and tells
/// `on_event` of each: one `started`, a `progress` each second, one `finished`, whatever ends it.
///
/// The scratch file is gone when this returns. Writes that fail are counted, not returned.
///
/// # Errors
/// What keeps a profile from starting; see [`WorkloadError`]. Profiles before it have finished.
pub fn run(
    plan: &Plan,
    stop: &AtomicBool,
    mut on_event: impl FnMut(Workload),
) -> Result<Vec<Outcome>, WorkloadError> {
    if !plan.confirmed && plan.profiles.contains(&Profile::G) {
        device::require_test_disk(plan.target.path())?;
    }
    raise_open_files();
    let mut outcomes = Vec::new();
    for &profile in &plan.profiles {
        if stop.load(Relaxed) {
            break;
        }
        outcomes.push(run_profile(plan, profile, stop, &mut on_event)?);
    }
    Ok(outcomes)
}

/// What the workers open, held for as long as they run.
enum Ground {
    Scratch(Scratch),
    Device(Claim),
}

impl Ground {
    fn prepare(plan: &Plan) -> Result<Self, WorkloadError> {
        match &plan.target {
            Target::Directory(path) => Scratch::create(path, plan.file_size).map(Self::Scratch),
            Target::Device(path) => Claim::new(path, plan.file_size).map(Self::Device),
        }
    }

    /// Inode of the scratch file.
    fn ino(&self) -> Option<u64> {
        match self {
            Self::Scratch(scratch) => Some(scratch.ino()),
            Self::Device(_) => None,
        }
    }

    fn open(&self, profile: Profile) -> Result<OwnedFd, WorkloadError> {
        match self {
            Self::Scratch(scratch) => scratch.open(profile),
            Self::Device(claim) => claim.open(profile),
        }
    }
}

/// What one thread does, with all it needs opened and mapped.
enum Job<'a> {
    Write(Worker<'a>, Arc<Region>),
    Store(Worker<'a>, Region),
    Scribble(Arc<Region>, usize, &'a StopCondition<'a>),
}

impl Job<'_> {
    fn name(&self) -> String {
        match self {
            Self::Write(worker, _) => format!("wac-write-{}", worker.number),
            Self::Store(worker, _) => format!("wac-mmap-{}", worker.number),
            Self::Scribble(..) => "wac-scribble".to_owned(),
        }
    }

    fn run(self) {
        match self {
            Self::Write(worker, buffer) => worker.write(&buffer),
            Self::Store(worker, mapping) => worker.store(&mapping),
            Self::Scribble(buffer, len, stop_condition) => scribble(&buffer, len, stop_condition),
        }
    }
}

/// Opens and maps what the workers need: all that can fail is done before the first thread exists.
fn prepare<'a>(
    plan: &Plan,
    profile: Profile,
    ground: &Ground,
    counters: &'a [Counters],
    stop_condition: &'a StopCondition<'a>,
) -> Result<Vec<Job<'a>>, WorkloadError> {
    // A plan's sizes are addressable, as it was checked.
    let io_size = usize::try_from(plan.io_size).unwrap_or(usize::MAX);
    let file_size = usize::try_from(plan.file_size).unwrap_or(usize::MAX);
    let buffer = || Region::anonymous(io_size).map(Arc::new);
    let shared = profile.shared_buffer().then(buffer).transpose()?;
    let mut jobs = Vec::new();
    for (number, counters) in (0..).zip(counters) {
        let file = ground.open(profile)?;
        let (slots, sync) = (plan.slots(), plan.sync);
        let rng = Rng::for_worker(plan.seed, number);
        let worker =
            |file| Worker { number, file, io_size, slots, sync, rng, counters, stop_condition };
        jobs.push(match (profile.mode(number), &shared) {
            (Mode::Mmap, _) => {
                let mapping = Region::of_file(&file, file_size)?;
                Job::Store(worker(file), mapping)
            }
            (Mode::Write, Some(shared)) => Job::Write(worker(file), Arc::clone(shared)),
            (Mode::Write, None) => Job::Write(worker(file), buffer()?),
        });
    }
    // Writers that all wait for the disk rewrite nothing, so that somebody else must.
    jobs.extend(shared.map(|buffer| Job::Scribble(buffer, io_size, stop_condition)));
    Ok(jobs)
}

fn run_profile(
    plan: &Plan,
    profile: Profile,
    stop: &AtomicBool,
    on_event: &mut impl FnMut(Workload),
) -> Result<Outcome, WorkloadError> {
    let ground = Ground::prepare(plan)?;
    let counters: Vec<Counters> = (0..plan.threads).map(|_| Counters::default()).collect();
    let stop_condition = StopCondition::new(stop);
    let jobs = prepare(plan, profile, &ground, &counters, &stop_condition)?;

    let totals = || ModeTotals::of((0..).map(|number| profile.mode(number)).zip(&counters));
    let ino = ground.ino();
    let mut tell = |state: WorkloadState, totals: &ModeTotals, elapsed: Duration| {
        let sum = totals.sum();
        on_event(Workload {
            state,
            profile: profile.name().to_owned(),
            threads: plan.threads,
            file_size: plan.file_size,
            operations: sum.operations,
            bytes: sum.bytes,
            errors: sum.errors(),
            modes: totals.by_mode((0..plan.threads).map(|number| profile.mode(number))),
            failed: sum.failed,
            elapsed_ns: Some(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)),
            pid: Some(std::process::id()),
            ino,
        });
    };

    let start_barrier = StartBarrier::new();
    let elapsed = thread::scope(|scope| {
        let mut threads = Vec::new();
        for (number, job) in (0..).zip(jobs) {
            let builder = thread::Builder::new().name(job.name()).stack_size(STACK);
            let gated = || {
                if start_barrier.pass() {
                    job.run();
                }
            };
            threads.push(builder.spawn_scoped(scope, gated).map_err(|source| {
                start_barrier.call_off();
                WorkloadError::Spawn { worker: number, source }
            })?);
        }
        start_barrier.gather(threads.len());
        // While they run, this thread may not come to tell anything: see `StopCondition`.
        tell(WorkloadState::Started, &ModeTotals::default(), Duration::ZERO);
        let started = Instant::now();
        stop_condition.after(started, plan.duration);
        start_barrier.open();
        watch(started, plan.duration, stop, || {
            tell(WorkloadState::Progress, &totals(), started.elapsed());
        });
        stop_condition.now();
        for (number, thread) in (0..).zip(threads) {
            thread.join().map_err(|_| WorkloadError::WorkerPanicked(number))?;
        }
        Ok(started.elapsed())
    })?;
    let totals = totals();
    // The file goes first: whoever hears `finished` finds nothing left.
    drop(ground);
    tell(WorkloadState::Finished, &totals, elapsed);
    Ok(Outcome { profile, totals, elapsed })
}

/// Waits for the end, and calls `progress` each second until then.
fn watch(started: Instant, duration: Duration, stop: &AtomicBool, mut progress: impl FnMut()) {
    let mut next = PROGRESS;
    while !stop.load(Relaxed) {
        let elapsed = started.elapsed();
        if elapsed >= duration {
            break;
        }
        if elapsed >= next {
            progress();
            // From the clock, not from `next`: a late tick is not made up for by two at once.
            next = Duration::from_secs(elapsed.as_secs()) + PROGRESS;
        }
        thread::sleep(TICK.min(duration.saturating_sub(elapsed)));
    }
}

/// Each worker has a file open: allow as many as the hard limit does.
fn raise_open_files() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_err()
    {
        log::debug!("the limit of open files stays at {current:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watching_ends_with_the_duration_or_the_stop() {
        let stop = AtomicBool::new(false);
        let mut calls = 0;
        watch(Instant::now(), Duration::from_millis(30), &stop, || calls += 1);
        assert_eq!(calls, 0);
        stop.store(true, Relaxed);
        watch(Instant::now(), Duration::from_hours(1), &stop, || calls += 1);
        assert_eq!(calls, 0);
    }
}
