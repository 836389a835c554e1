//! Runs the guest tests: each kernel boots once and runs all of them.

use std::ffi::OsString;
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow};

use super::accel::{Accel, Engine};
use super::cache_dir::CacheDir;
use super::initrd::Task;
use super::kernel::Kernel;
use super::machine::{GuestExit, Machine, Outcome, Stream, status_of};
use super::packages;
use super::programs::Programs;
use super::series::Series;

#[derive(Clone, Debug)]
pub(crate) struct GuestSelection {
    /// Empty for all kernels.
    pub(crate) kernels: Vec<Series>,
    /// libtest's arguments: a part of a name, `--skip`, `--exact`.
    pub(crate) arguments: Vec<OsString>,
    /// More arguments, which depend on the kernel.
    pub(crate) arguments_of: fn(Series) -> Vec<OsString>,
    pub(crate) accel: Accel,
    /// Number of concurrent guests. Each takes 3 GiB and, if emulated, one core.
    pub(crate) jobs: usize,
    /// Time limit of one kernel for its boot and all its tests.
    pub(crate) limit: Duration,
}

impl Default for GuestSelection {
    fn default() -> Self {
        let cores = thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        Self {
            kernels: Vec::new(),
            arguments: Vec::new(),
            arguments_of: |_| Vec::new(),
            accel: Accel::Auto,
            // An emulated guest has one busy thread, whatever its number of CPUs.
            jobs: cores.min(Series::MATRIX.len()),
            // The slowest kernel takes some 33 minutes on a quiet machine of two cores. Only a guest that hangs takes longer.
            limit: Duration::from_mins(45),
        }
    }
}

#[derive(Debug)]
pub(crate) struct GuestResult {
    pub(crate) kernel: Series,
    /// From QEMU's start to the start of the tests, if they started.
    pub(crate) boot: Option<Duration>,
    /// From QEMU's start to its end.
    pub(crate) total: Duration,
    /// One line about failed tests, or a kernel that panicked, hung or did not boot. None if all tests
    /// passed.
    pub(crate) failure: Option<String>,
}

enum Message {
    Line(Series, String),
    Done(GuestResult),
}

/// Builds the test program and the agent, boots each kernel once, and runs the tests there. Calls `line`
/// with each line of output, without its line end; lines of concurrent guests are mixed. Returns the
/// results in the order of [`Series::MATRIX`].
pub(crate) fn guest_tests(
    selection: &GuestSelection,
    line: &mut dyn FnMut(Series, &str),
) -> Result<Vec<GuestResult>> {
    packages::ensure()?;
    let engine = selection.accel.engine()?;
    let cache = CacheDir::open()?;
    let selected =
        |series: &Series| selection.kernels.is_empty() || selection.kernels.contains(series);
    let kernels: Vec<_> = Series::LONGEST_FIRST.into_iter().filter(selected).collect();
    for series in &kernels {
        Kernel::ensure(&cache, *series)?;
    }
    let programs = Programs::build()?;

    let queue = Mutex::new(kernels.iter());
    let next = || queue.lock().map_or(None, |mut queue| queue.next().copied());
    let mut results = Vec::new();
    thread::scope(|scope| {
        let (sender, messages) = channel();
        for _ in 0..selection.jobs.clamp(1, kernels.len()) {
            // QEMU is killed when the thread that started it ends.
            let (sender, next, cache, programs) = (sender.clone(), &next, &cache, &programs);
            scope.spawn(move || {
                while let Some(series) = next() {
                    let result = run(series, engine, selection, cache, programs, &sender);
                    // The receiver may have been dropped.
                    let _ = sender.send(Message::Done(result));
                }
            });
        }
        drop(sender);
        for message in messages {
            match message {
                Message::Line(series, text) => line(series, &text),
                Message::Done(result) => results.push(result),
            }
        }
    });
    results.sort_unstable_by_key(|result: &GuestResult| result.kernel);
    Ok(results)
}

fn run(
    series: Series,
    engine: Engine,
    selection: &GuestSelection,
    cache: &CacheDir,
    programs: &Programs,
    sender: &Sender<Message>,
) -> GuestResult {
    let mut command = vec![programs.tests.clone().into_os_string()];
    command.extend(selection.arguments.iter().cloned());
    command.extend((selection.arguments_of)(series));
    let machine = Machine {
        cache,
        series,
        engine,
        task: Task::Command(command),
        agent: Some(programs.agent.clone()),
        limit: Some(selection.limit),
    };
    let forward = |text: &str| {
        let _ = sender.send(Message::Line(series, text.to_owned()));
    };
    let mut lines = [Lines::default(), Lines::default()];
    let ended = machine.run(&mut |stream, bytes| {
        let lines = match stream {
            Stream::Out => &mut lines[0],
            Stream::Err => &mut lines[1],
        };
        lines.add(bytes, &forward);
        Ok(())
    });
    for rest in lines {
        rest.end(&forward);
    }
    match ended {
        Ok(ended) => result(series, &ended, &forward),
        Err(error) => GuestResult {
            kernel: series,
            boot: None,
            total: Duration::ZERO,
            failure: Some(format!("kernel {series}: {error:#}")),
        },
    }
}

fn result(series: Series, ended: &GuestExit, forward: &dyn Fn(&str)) -> GuestResult {
    if !matches!(ended.outcome, Outcome::Exit(_)) {
        forward("--- the end of the guest's console ---");
        ended.console.tail().lines().for_each(forward);
    }
    let status = status_of(ended, series).and_then(|code| match code {
        0 => Ok(()),
        // libtest's status for failed tests.
        101 => Err(anyhow!("tests failed on kernel {series}")),
        _ => Err(anyhow!("the test program exited with {code} on kernel {series}")),
    });
    GuestResult {
        kernel: series,
        boot: ended.boot,
        total: ended.total,
        failure: status.err().map(|error| format!("{error:#}")),
    }
}

/// Splits chunks of output into lines.
#[derive(Default)]
struct Lines(Vec<u8>);

impl Lines {
    fn add(&mut self, bytes: &[u8], forward: &dyn Fn(&str)) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.0.extend_from_slice(piece);
            if self.0.pop_if(|byte| *byte == b'\n').is_some() {
                forward(&String::from_utf8_lossy(&std::mem::take(&mut self.0)));
            }
        }
    }

    fn end(self, forward: &dyn Fn(&str)) {
        if !self.0.is_empty() {
            forward(&String::from_utf8_lossy(&self.0));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn chunks_become_whole_lines() {
        let told = RefCell::new(Vec::new());
        let forward = |line: &str| told.borrow_mut().push(line.to_owned());
        let mut lines = Lines::default();
        for piece in ["te", "st a ... ", "ok\n\ntest b", " ... ok\nrest"] {
            lines.add(piece.as_bytes(), &forward);
        }
        lines.end(&forward);
        assert_eq!(*told.borrow(), ["test a ... ok", "", "test b ... ok", "rest"]);
    }
}
