//! The kernel's `function_graph` tracer: every call of selected functions, with its duration.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::host::TRACING;
use super::process::threads;
use super::tracefs::{check_nothing_lost, lines, write};

/// KiB of buffer for each CPU.
const BUFFER_KIB: &str = "32768";

/// The event of a task that is switched out.
const SWITCH: &str = "sched/sched_switch";

/// One call that ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Call {
    pub(crate) function: String,
    /// Name of the task.
    pub(crate) comm: String,
    /// The thread (what userspace calls tid).
    pub(crate) tid: u32,
    /// From entry to return, including sleep.
    pub(crate) duration: Duration,
    /// Whether the event of [`Builder::mark_event`] fired within the call.
    pub(crate) had_event: bool,
    /// Whether the task was switched out after that, asleep or preempted.
    pub(crate) switched: bool,
    /// Whether it slept then.
    pub(crate) slept: bool,
}

/// The running tracer. A kernel has one.
#[derive(Debug)]
pub(crate) struct FunctionGraph {
    marks: Option<Marks>,
}

/// The events that the tracer's buffer shows beside the calls.
#[derive(Clone, Debug)]
struct Marks {
    event: String,
    /// How the names of the tasks begin whose switches are shown.
    comm: String,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Builder {
    functions: Vec<String>,
    processes: Vec<u32>,
    at_least: Duration,
    marks: Option<Marks>,
}

impl FunctionGraph {
    /// Selects every call of `function`.
    pub(crate) fn of(function: &str) -> Builder {
        Builder { functions: vec![function.to_owned()], ..Builder::default() }
    }

    /// Stops the tracer and returns the calls that ended. Fails if the tracer lost any.
    pub(crate) fn finish(self) -> Result<Vec<Call>> {
        let root = Path::new(TRACING);
        write(root, "tracing_on", "0")?;
        check_nothing_lost(root)?;
        let calls = calls(&lines(root)?);
        // Removes the tracer and with it the buffer, which is read by now.
        drop(self);
        Ok(calls)
    }
}

impl Builder {
    /// Adds the calls of its callers, as far as this kernel has them.
    #[must_use]
    pub(crate) fn with_callers<'a>(mut self, callers: impl IntoIterator<Item = &'a str>) -> Self {
        self.functions.extend(callers.into_iter().map(str::to_owned));
        self
    }

    /// Limits the trace to this process, its threads and its descendants. May be repeated.
    #[must_use]
    pub(crate) fn in_process(mut self, pid: u32) -> Self {
        self.processes.push(pid);
        self
    }

    /// Limits the trace to calls at least this long, in full microseconds.
    #[must_use]
    pub(crate) fn at_least(mut self, duration: Duration) -> Self {
        self.at_least = duration;
        self
    }

    /// Marks the calls within which an event such as `block/block_rq_complete` fires, and in which the task is
    /// switched out after it. The names of the tasks begin with `comm`.
    ///
    /// The switches are needed also to mark the right call. The kernel prints an entry whose next record of the same
    /// CPU is its return as one line, at the time of the entry (`get_return_for_leaf`,
    /// `kernel/trace/trace_functions_graph.c`, 5.10 to 7.3), also if the task was on another CPU meanwhile: the event
    /// would follow its call. A switch is a record between the two.
    #[must_use]
    pub(crate) fn mark_event(mut self, event: &str, comm: &str) -> Self {
        self.marks = Some(Marks { event: event.to_owned(), comm: comm.to_owned() });
        self
    }

    pub(crate) fn start(&self) -> Result<FunctionGraph> {
        let root = Path::new(TRACING);
        // Created first, so that drop also undoes a partial setup.
        let graph = FunctionGraph { marks: self.marks.clone() };
        write(root, "tracing_on", "0")?;
        write(root, "current_tracer", "nop")?;
        write(root, "buffer_size_kb", BUFFER_KIB)?;
        // The clock of the programs: on an emulated machine the tracer's own runs 0.4 % slower.
        write(root, "trace_clock", "mono")?;
        write(root, "set_ftrace_filter", &self.traceable(root)?)?;
        write(root, "options/function-fork", "1")?;
        let tids = self.processes.iter().map(|pid| threads(*pid)).collect::<Result<Vec<_>>>()?;
        if !tids.is_empty() {
            let tids: Vec<_> = tids.concat().iter().map(u32::to_string).collect();
            write(root, "set_ftrace_pid", &tids.join(" "))?;
        }
        write(root, "tracing_thresh", &self.at_least.as_micros().to_string())?;
        write(root, "current_tracer", "function_graph")?;
        for (option, value) in [("proc", "1"), ("tail", "1"), ("abstime", "0"), ("irqs", "1")] {
            write(root, &format!("options/funcgraph-{option}"), value)?;
        }
        if let Some(Marks { event, comm }) = &self.marks {
            write(root, &format!("events/{event}/enable"), "1")?;
            write(root, &format!("events/{SWITCH}/filter"), &format!("prev_comm ~ \"{comm}*\""))?;
            write(root, &format!("events/{SWITCH}/enable"), "1")?;
        }
        write(root, "tracing_on", "1")?;
        Ok(graph)
    }

    /// The functions by their numbers, which are the lines of the kernel's list from 1 on: a filter by name compares
    /// the names of all functions, which took 2 s each (7.3). The compiler adds suffixes such as `.isra.0`
    /// to names. The first function must exist.
    fn traceable(&self, root: &Path) -> Result<String> {
        let path = root.join("available_filter_functions");
        let list = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        // The name of a module follows its function, in brackets.
        let names: Vec<_> =
            list.lines().map(|line| line.split(' ').next().unwrap_or_default()).collect();
        let first = self.functions.first().context("no function to trace")?;
        ensure!(names.contains(&first.as_str()), "this kernel cannot trace {first}");
        let wanted = |name: &str| {
            let bare = name.split('.').next().unwrap_or_default();
            self.functions.iter().any(|function| function == bare)
        };
        let found = (1_u32..).zip(names).filter(|(_, name)| wanted(name));
        Ok(found.map(|(number, _)| number.to_string()).collect::<Vec<_>>().join(" "))
    }
}

impl Drop for FunctionGraph {
    fn drop(&mut self) {
        let root = Path::new(TRACING);
        if let Some(Marks { event, .. }) = &self.marks
            && let Err(error) = write(root, &format!("events/{event}/enable"), "0")
        {
            eprintln!("{error:#}");
        }
        let (enable, filter) =
            (format!("events/{SWITCH}/enable"), format!("events/{SWITCH}/filter"));
        let settings = [
            (enable.as_str(), "0"),
            (filter.as_str(), "0"),
            ("current_tracer", "nop"),
            ("tracing_thresh", "0"),
            ("set_ftrace_pid", ""),
            ("options/function-fork", "0"),
            ("set_ftrace_filter", ""),
            ("buffer_size_kb", "1408"),
            ("trace_clock", "local"),
            ("tracing_on", "1"),
        ];
        for (name, value) in settings {
            if let Err(error) = write(root, name, value) {
                eprintln!("{error:#}");
            }
        }
    }
}

/// Parses the calls of a trace, in the order of their ends.
pub(crate) fn calls(lines: &[String]) -> Vec<Call> {
    // The threads that had the event since their last call, and whether they were switched out since, and slept.
    let mut marked: BTreeMap<u32, (bool, bool)> = BTreeMap::new();
    let calls = lines.iter().filter_map(|line| {
        let Some(ended) = call(line) else {
            match event(line) {
                Some((tid, "sched_switch")) => {
                    let asleep = line.contains(" prev_state=D ");
                    marked.entry(tid).and_modify(|(switched, slept)| {
                        *switched = true;
                        *slept |= asleep;
                    });
                }
                Some((tid, _)) => _ = marked.entry(tid).or_default(),
                None => {}
            }
            return None;
        };
        let mark = marked.remove(&ended.tid);
        let (switched, slept) = mark.unwrap_or_default();
        Some(Call { had_event: mark.is_some(), switched, slept, ..ended })
    });
    calls.collect()
}

/// Parses the thread and the name of an event: ` 1)  wac-1234    |               |  /* folio_wait_writeback: … */`.
fn event(line: &str) -> Option<(u32, &str)> {
    let (_, rest) = line.split_once(')')?;
    let (task, text) = rest.split_once('|')?;
    let (_, text) = text.split_once('|')?;
    let (_, tid) = task.trim().rsplit_once('-')?;
    let (name, _) = text.trim_start().strip_prefix("/* ")?.split_once(':')?;
    Some((tid.parse().ok()?, name))
}

/// Parses the end of a call, which is a line with a duration:
/// ` 1)  wac-1234    | ! 250.123 us  |  } /* folio_wait_writeback */`, or, for a call without traced
/// callees, `… |  0.5 us  |  folio_wait_writeback();`.
pub(crate) fn call(line: &str) -> Option<Call> {
    let (_, rest) = line.split_once(')')?;
    let mut fields = rest.split('|');
    let (comm, tid) = fields.next()?.trim().rsplit_once('-')?;
    let time = fields.next()?.trim();
    let text = fields.next()?.trim();
    // A mark precedes a long duration: + ! # * @ $, from shorter to longer.
    let number = time.trim_start_matches(['+', '!', '#', '*', '@', '$', ' ']).strip_suffix("us")?;
    let micros: f64 = number.trim().parse().ok()?;
    let function = text
        .trim_start_matches(['}', ' ', '/', '*'])
        .split(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '.')))
        .next()
        .filter(|name| !name.is_empty())?;
    Some(Call {
        function: function.to_owned(),
        comm: comm.trim().to_owned(),
        tid: tid.parse().ok()?,
        duration: Duration::from_secs_f64(micros / 1e6),
        had_event: false,
        switched: false,
        slept: false,
    })
}
