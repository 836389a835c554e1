//! The guest tests on the matrix: each kernel boots once and runs all of them.

use std::ffi::OsString;
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow};

use super::accel::{Accel, Engine};
use super::initrd::Task;
use super::kernel::Kernel;
use super::machine::{Ended, Machine, Outcome, Stream, status_of};
use super::packages;
use super::place::Place;
use super::programs::Programs;
use super::series::Series;

/// What is to be run.
#[derive(Clone, Debug)]
pub struct GuestSelection {
    /// Which kernels; none stands for the whole matrix.
    pub kernels: Vec<Series>,
    /// Arguments of the test program, which are libtest's: a part of a name, `--skip`, `--exact`.
    pub arguments: Vec<OsString>,
    /// How instructions are run.
    pub accel: Accel,
    /// How many guests run at a time, each with 3 GiB and, emulated, one core.
    pub jobs: usize,
    /// How long one kernel may take for all its tests, boot included.
    pub limit: Duration,
}

impl Default for GuestSelection {
    fn default() -> Self {
        let cores = thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        Self {
            kernels: Vec::new(),
            arguments: Vec::new(),
            accel: Accel::Auto,
            // An emulated guest has one busy thread, whatever its CPUs.
            jobs: cores.min(Series::MATRIX.len()),
            limit: Duration::from_mins(30),
        }
    }
}

/// What came of one kernel.
#[derive(Debug)]
pub struct GuestResult {
    /// Which kernel.
    pub kernel: Series,
    /// From QEMU's start until the tests started; none if it did not come to that.
    pub boot: Option<Duration>,
    /// From QEMU's start to its end.
    pub total: Duration,
    /// Nothing, if all its tests passed; otherwise one line: some failed, or the kernel died, hung
    /// or did not start.
    pub failure: Option<String>,
}

enum News {
    Line(Series, String),
    Done(GuestResult),
}

/// Builds the test program and the agent, boots each kernel once, and runs the tests there. `line`
/// gets every line as it comes, without its end, with the kernel it is from; those of kernels that
/// run at the same time are mixed. Results come in the matrix's order.
///
/// # Errors
/// If the programs cannot be built or a kernel cannot be fetched: then no guest is started.
pub fn guest_tests(
    selection: &GuestSelection,
    line: &mut dyn FnMut(Series, &str),
) -> Result<Vec<GuestResult>> {
    packages::ensure()?;
    let engine = selection.accel.engine()?;
    let place = Place::open()?;
    let mut kernels = selection.kernels.clone();
    if kernels.is_empty() {
        kernels = Series::MATRIX.to_vec();
    }
    kernels.sort_unstable();
    kernels.dedup();
    for series in &kernels {
        Kernel::ensure(&place, *series)?;
    }
    let programs = Programs::build()?;

    let queue = Mutex::new(kernels.iter());
    let next = || queue.lock().map_or(None, |mut queue| queue.next().copied());
    let mut results = Vec::new();
    thread::scope(|scope| {
        let (news, inbox) = channel();
        for _ in 0..selection.jobs.clamp(1, kernels.len()) {
            // A guest ends with the thread that started it, so a thread stays until it has ended.
            let (news, next, place, programs) = (news.clone(), &next, &place, &programs);
            scope.spawn(move || {
                while let Some(series) = next() {
                    let result = one(series, engine, selection, place, programs, &news);
                    // Without a receiver nobody wants to know.
                    let _ = news.send(News::Done(result));
                }
            });
        }
        drop(news);
        for news in inbox {
            match news {
                News::Line(series, text) => line(series, &text),
                News::Done(result) => results.push(result),
            }
        }
    });
    results.sort_unstable_by_key(|result: &GuestResult| result.kernel);
    Ok(results)
}

fn one(
    series: Series,
    engine: Engine,
    selection: &GuestSelection,
    place: &Place,
    programs: &Programs,
    news: &Sender<News>,
) -> GuestResult {
    let mut command = vec![programs.tests.clone().into_os_string()];
    command.extend(selection.arguments.iter().cloned());
    let machine = Machine {
        place,
        series,
        engine,
        task: Task::Command(command),
        agent: Some(programs.agent.clone()),
        limit: Some(selection.limit),
    };
    let tell = |text: &str| {
        // As above.
        let _ = news.send(News::Line(series, text.to_owned()));
    };
    let mut lines = [Lines::default(), Lines::default()];
    let ended = machine.run(&mut |stream, bytes| {
        let lines = match stream {
            Stream::Out => &mut lines[0],
            Stream::Err => &mut lines[1],
        };
        lines.add(bytes, &tell);
        Ok(())
    });
    for rest in lines {
        rest.end(&tell);
    }
    match ended {
        Ok(ended) => result(series, &ended, &tell),
        Err(error) => GuestResult {
            kernel: series,
            boot: None,
            total: Duration::ZERO,
            failure: Some(format!("kernel {series}: {error:#}")),
        },
    }
}

fn result(series: Series, ended: &Ended, tell: &dyn Fn(&str)) -> GuestResult {
    if !matches!(ended.outcome, Outcome::Exit(_)) {
        tell("--- the end of the guest's console ---");
        ended.console.tail().lines().for_each(tell);
    }
    let status = status_of(ended, series).and_then(|code| match code {
        0 => Ok(()),
        // libtest's own.
        101 => Err(anyhow!("tests failed on kernel {series}")),
        _ => Err(anyhow!("the test program ended with {code} on kernel {series}")),
    });
    GuestResult {
        kernel: series,
        boot: ended.boot,
        total: ended.total,
        failure: status.err().map(|error| format!("{error:#}")),
    }
}

/// Cuts what arrives in pieces into lines.
#[derive(Default)]
struct Lines(Vec<u8>);

impl Lines {
    fn add(&mut self, bytes: &[u8], tell: &dyn Fn(&str)) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.0.extend_from_slice(piece);
            if self.0.pop_if(|byte| *byte == b'\n').is_some() {
                tell(&String::from_utf8_lossy(&std::mem::take(&mut self.0)));
            }
        }
    }

    fn end(self, tell: &dyn Fn(&str)) {
        if !self.0.is_empty() {
            tell(&String::from_utf8_lossy(&self.0));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn lines_come_whole_however_they_arrive() {
        let told = RefCell::new(Vec::new());
        let tell = |line: &str| told.borrow_mut().push(line.to_owned());
        let mut lines = Lines::default();
        for piece in ["te", "st a ... ", "ok\n\ntest b", " ... ok\nrest"] {
            lines.add(piece.as_bytes(), &tell);
        }
        lines.end(&tell);
        assert_eq!(*told.borrow(), ["test a ... ok", "", "test b ... ok", "rest"]);
    }
}
