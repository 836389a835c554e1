//! Runs a plan in this process: one profile after the other, with the workers as threads.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use stable_trace_analysis::event::{Workload, WorkloadState};

use super::counters::{Counters, ModeTotals};
use super::error::WorkloadError;
use super::exclusive_device::ExclusiveDevice;
use super::plan::{Plan, Target};
use super::profile::{Mode, Profile};
use super::region::Region;
use super::rng::Rng;
use super::scratch::ScratchFile;
use super::start_barrier::StartBarrier;
use super::stop_condition::StopCondition;
use super::test_disk::require_test_disk;
use super::worker::{Worker, rewrite_in_flight};

/// Interval of `progress` events.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// Interval at which `stop` is checked.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Enough for a worker's loop, which has few local variables.
const THREAD_STACK_SIZE: usize = 128 << 10;

/// Runs the profiles of `plan` one after the other until `stop` is true. For each profile it calls
/// `on_event` with one `started` event, one `progress` event a second, and one `finished` event.
///
/// Removes the scratch file before it returns. Failed writes are counted, not returned; an error
/// means that a profile could not start.
pub(super) fn run(
    plan: &Plan,
    stop: &AtomicBool,
    mut on_event: impl FnMut(Workload),
) -> Result<(), WorkloadError> {
    if !plan.confirmed && plan.profiles.contains(&Profile::G) {
        require_test_disk(plan.target.path())?;
    }
    raise_open_files();
    for &profile in &plan.profiles {
        if stop.load(Relaxed) {
            break;
        }
        run_profile(plan, profile, stop, &mut on_event)?;
    }
    Ok(())
}

/// The file or device that the workers write. It is removed or released when dropped.
enum TargetFile {
    Scratch(ScratchFile),
    Device(ExclusiveDevice),
}

impl TargetFile {
    fn new(plan: &Plan) -> Result<Self, WorkloadError> {
        match &plan.target {
            Target::Directory(path) => ScratchFile::create(path, plan.file_size).map(Self::Scratch),
            Target::Device(path) => ExclusiveDevice::claim(path, plan.file_size).map(Self::Device),
        }
    }

    /// Inode number of the scratch file.
    fn ino(&self) -> Option<u64> {
        match self {
            Self::Scratch(scratch) => Some(scratch.ino()),
            Self::Device(_) => None,
        }
    }

    fn open(&self, profile: Profile) -> Result<OwnedFd, WorkloadError> {
        match self {
            Self::Scratch(scratch) => scratch.open(profile),
            Self::Device(device) => device.open(profile),
        }
    }
}

/// The work of one thread, with its file open and its memory mapped.
enum ThreadTask<'a> {
    Write(Worker<'a>, Arc<Region>),
    Store(Worker<'a>, Region),
    RewriteInFlight(Arc<Region>, usize, &'a StopCondition<'a>),
}

impl ThreadTask<'_> {
    fn thread_name(&self) -> String {
        match self {
            Self::Write(worker, _) => format!("wac-write-{}", worker.number),
            Self::Store(worker, _) => format!("wac-mmap-{}", worker.number),
            Self::RewriteInFlight(..) => "wac-scribble".to_owned(),
        }
    }

    fn run(self) {
        match self {
            Self::Write(worker, buffer) => worker.write(&buffer),
            Self::Store(worker, mapping) => worker.store(&mapping),
            Self::RewriteInFlight(buffer, len, stop_condition) => {
                rewrite_in_flight(&buffer, len, stop_condition);
            }
        }
    }
}

/// Opens files and maps memory for all threads. What can fail happens here, before the first thread
/// exists.
fn prepare_tasks<'a>(
    plan: &Plan,
    profile: Profile,
    target: &TargetFile,
    counters: &'a [Counters],
    stop_condition: &'a StopCondition<'a>,
) -> Result<Vec<ThreadTask<'a>>, WorkloadError> {
    // `Plan::new` has checked that the sizes fit.
    let io_size = usize::try_from(plan.io_size).unwrap_or(usize::MAX);
    let file_size = usize::try_from(plan.file_size).unwrap_or(usize::MAX);
    let buffer = || Region::anonymous(io_size).map(Arc::new);
    let shared = profile.shares_buffer().then(buffer).transpose()?;
    let mut tasks = Vec::new();
    for (number, counters) in (0..).zip(counters) {
        let file = target.open(profile)?;
        let (slots, sync) = (plan.slots(), plan.sync);
        let rng = Rng::for_worker(plan.seed, number);
        let worker =
            |file| Worker { number, file, io_size, slots, sync, rng, counters, stop_condition };
        tasks.push(match (profile.mode(number), &shared) {
            (Mode::Mmap, _) => {
                let mapping = Region::of_file(&file, file_size)?;
                ThreadTask::Store(worker(file), mapping)
            }
            (Mode::Write, Some(shared)) => ThreadTask::Write(worker(file), Arc::clone(shared)),
            (Mode::Write, None) => ThreadTask::Write(worker(file), buffer()?),
        });
    }
    // The writers spend their time waiting for the disk, so another thread rewrites the buffer.
    tasks.extend(shared.map(|buffer| ThreadTask::RewriteInFlight(buffer, io_size, stop_condition)));
    Ok(tasks)
}

fn run_profile(
    plan: &Plan,
    profile: Profile,
    stop: &AtomicBool,
    on_event: &mut impl FnMut(Workload),
) -> Result<(), WorkloadError> {
    let target = TargetFile::new(plan)?;
    let counters: Vec<Counters> = (0..plan.threads).map(|_| Counters::default()).collect();
    let stop_condition = StopCondition::new(stop);
    let tasks = prepare_tasks(plan, profile, &target, &counters, &stop_condition)?;

    let totals = || ModeTotals::of((0..).map(|number| profile.mode(number)).zip(&counters));
    let ino = target.ino();
    let mut emit = |state: WorkloadState, totals: &ModeTotals, elapsed: Duration| {
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
        for (number, task) in (0..).zip(tasks) {
            let builder =
                thread::Builder::new().name(task.thread_name()).stack_size(THREAD_STACK_SIZE);
            let body = || {
                if start_barrier.wait() {
                    task.run();
                }
            };
            threads.push(builder.spawn_scoped(scope, body).map_err(|source| {
                start_barrier.cancel();
                WorkloadError::SpawnThread { worker: number, source }
            })?);
        }
        start_barrier.wait_for_arrivals(threads.len());
        // While the workers run, this thread may be blocked (see `StopCondition`), so it emits this
        // event before it opens the barrier.
        emit(WorkloadState::Started, &ModeTotals::default(), Duration::ZERO);
        let started = Instant::now();
        stop_condition.set_deadline(started, plan.duration);
        start_barrier.open();
        wait_for_end(started, plan.duration, stop, || {
            emit(WorkloadState::Progress, &totals(), started.elapsed());
        });
        stop_condition.stop_now();
        for (number, thread) in (0..).zip(threads) {
            thread.join().map_err(|_| WorkloadError::WorkerPanicked(number))?;
        }
        Ok(started.elapsed())
    })?;
    let totals = totals();
    // The scratch file is removed before the reader of `finished` can look for it.
    drop(target);
    emit(WorkloadState::Finished, &totals, elapsed);
    Ok(())
}

/// Waits for `duration` or `stop`, and calls `on_second` each second until then.
fn wait_for_end(
    started: Instant,
    duration: Duration,
    stop: &AtomicBool,
    mut on_second: impl FnMut(),
) {
    let mut next = PROGRESS_INTERVAL;
    while !stop.load(Relaxed) {
        let elapsed = started.elapsed();
        if elapsed >= duration {
            break;
        }
        if elapsed >= next {
            on_second();
            // Computed from the clock, not from `next`: a late call is not followed by two at once.
            next = Duration::from_secs(elapsed.as_secs()) + PROGRESS_INTERVAL;
        }
        thread::sleep(POLL_INTERVAL.min(duration.saturating_sub(elapsed)));
    }
}

/// Raises the limit of open files to the hard limit, because each worker has a file open.
fn raise_open_files() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_err()
    {
        log::debug!("cannot raise the limit of open files from {current:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_ends_with_the_duration_or_with_stop() {
        let stop = AtomicBool::new(false);
        let mut calls = 0;
        wait_for_end(Instant::now(), Duration::from_millis(30), &stop, || calls += 1);
        assert_eq!(calls, 0);
        stop.store(true, Relaxed);
        wait_for_end(Instant::now(), Duration::from_hours(1), &stop, || calls += 1);
        assert_eq!(calls, 0);
    }
}
