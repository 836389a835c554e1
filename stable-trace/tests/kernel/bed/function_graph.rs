//! The kernel's own `function_graph` tracer: every call of some functions, with its duration.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::host::TRACING;
use super::tracefs::{check_nothing_lost, lines, write};

/// KiB of buffer for each CPU.
const BUFFER_KIB: &str = "32768";

/// One call that ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The function.
    pub function: String,
    /// Name of the task.
    pub comm: String,
    /// The thread (what userspace calls tid).
    pub tid: u32,
    /// From entry to return, asleep or not.
    pub duration: Duration,
    /// Whether the event of [`Wanted::around`] fired within it.
    pub had_event: bool,
}

/// The tracer while it runs. There is one in a kernel.
#[derive(Debug)]
pub struct FunctionGraph {
    /// What its buffer shows beside the calls.
    event: Option<String>,
}

/// What to trace.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    functions: Vec<String>,
    processes: Vec<u32>,
    at_least: Duration,
    event: Option<String>,
}

impl FunctionGraph {
    /// Every call of `function`; say more, then [`Wanted::start`].
    pub fn of(function: &str) -> Wanted {
        Wanted { functions: vec![function.to_owned()], ..Wanted::default() }
    }

    /// Stops, and returns the calls that ended meanwhile. An error if the tracer lost any.
    pub fn finish(self) -> Result<Vec<Call>> {
        let root = Path::new(TRACING);
        write(root, "tracing_on", "0")?;
        check_nothing_lost(root)?;
        let calls = calls(&lines(root)?);
        // The buffer goes when the tracer does: not before this.
        drop(self);
        Ok(calls)
    }
}

impl Wanted {
    /// And the calls of those that may call it, as far as this kernel has them.
    #[must_use]
    pub fn inside<'a>(mut self, callers: impl IntoIterator<Item = &'a str>) -> Self {
        self.functions.extend(callers.into_iter().map(str::to_owned));
        self
    }

    /// Only this process, its threads, and what they fork; and others that are named so.
    #[must_use]
    pub fn in_process(mut self, pid: u32) -> Self {
        self.processes.push(pid);
        self
    }

    /// Only calls at least this long; full microseconds.
    #[must_use]
    pub fn at_least(mut self, duration: Duration) -> Self {
        self.at_least = duration;
        self
    }

    /// Marks the calls within which an event such as `block/block_rq_complete` fires.
    #[must_use]
    pub fn around(mut self, event: &str) -> Self {
        self.event = Some(event.to_owned());
        self
    }

    /// Starts the tracer.
    pub fn start(&self) -> Result<FunctionGraph> {
        let root = Path::new(TRACING);
        // First, so that what was half set is undone.
        let graph = FunctionGraph { event: self.event.clone() };
        write(root, "tracing_on", "0")?;
        write(root, "current_tracer", "nop")?;
        write(root, "buffer_size_kb", BUFFER_KIB)?;
        write(root, "set_ftrace_filter", &self.traceable(root)?)?;
        write(root, "options/function-fork", "1")?;
        let threads = self.processes.iter().map(|pid| threads(*pid)).collect::<Result<Vec<_>>>()?;
        if !threads.is_empty() {
            write(root, "set_ftrace_pid", &threads.concat().join(" "))?;
        }
        write(root, "tracing_thresh", &self.at_least.as_micros().to_string())?;
        write(root, "current_tracer", "function_graph")?;
        for (option, value) in [("proc", "1"), ("tail", "1"), ("abstime", "0"), ("irqs", "1")] {
            write(root, &format!("options/funcgraph-{option}"), value)?;
        }
        if let Some(event) = &self.event {
            write(root, &format!("events/{event}/enable"), "1")?;
        }
        write(root, "tracing_on", "1")?;
        Ok(graph)
    }

    /// The functions under the names that this kernel has for them: the compiler adds suffixes such
    /// as `.isra.0`. The first one must be there.
    fn traceable(&self, root: &Path) -> Result<String> {
        let path = root.join("available_filter_functions");
        let list = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        // A function of a module has it behind its name, in brackets.
        let names = list.lines().filter_map(|line| line.split_whitespace().next());
        let wanted = |name: &&str| {
            let bare = name.split('.').next().unwrap_or_default();
            self.functions.iter().any(|function| function == bare)
        };
        let found: Vec<_> = names.filter(wanted).collect();
        let first = self.functions.first().context("no function to trace")?;
        ensure!(found.contains(&first.as_str()), "this kernel cannot trace {first}");
        Ok(found.join(" "))
    }
}

impl Drop for FunctionGraph {
    fn drop(&mut self) {
        let root = Path::new(TRACING);
        if let Some(event) = &self.event
            && let Err(error) = write(root, &format!("events/{event}/enable"), "0")
        {
            eprintln!("{error:#}");
        }
        let settings = [
            ("current_tracer", "nop"),
            ("tracing_thresh", "0"),
            ("set_ftrace_pid", ""),
            ("options/function-fork", "0"),
            ("set_ftrace_filter", ""),
            ("buffer_size_kb", "1408"),
            ("tracing_on", "1"),
        ];
        for (name, value) in settings {
            if let Err(error) = write(root, name, value) {
                eprintln!("{error:#}");
            }
        }
    }
}

/// The threads that a process has by now; `function-fork` follows with those to come.
fn threads(pid: u32) -> Result<Vec<String>> {
    let path = format!("/proc/{pid}/task");
    let entries =
        std::fs::read_dir(&path).with_context(|| format!("cannot list {path}: has it ended?"))?;
    Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
}

/// The calls among the lines of a trace, in the order of their ends.
pub fn calls(lines: &[String]) -> Vec<Call> {
    let mut marked = BTreeSet::new();
    let calls = lines.iter().filter_map(|line| {
        let ended = call(line);
        if ended.is_none() {
            marked.extend(event(line));
        }
        ended.map(|call| Call { had_event: marked.remove(&call.tid), ..call })
    });
    calls.collect()
}

/// The thread that an event is of: ` 1)  wac-1234    |               |  /* folio_wait_writeback: … */`.
fn event(line: &str) -> Option<u32> {
    let (_, rest) = line.split_once(')')?;
    let (task, text) = rest.split_once('|')?;
    let (_, text) = text.rsplit_once('|')?;
    let (_, tid) = task.trim().rsplit_once('-')?;
    text.trim_start().starts_with("/*").then(|| tid.parse().ok())?
}

/// A line with a duration is the end of a call:
/// ` 1)  wac-1234    | ! 250.123 us  |  } /* folio_wait_writeback */`, or, for a call within which
/// nothing else was traced, `… |  0.5 us  |  folio_wait_writeback();`.
pub fn call(line: &str) -> Option<Call> {
    let (_, rest) = line.split_once(')')?;
    let mut fields = rest.split('|');
    let (comm, tid) = fields.next()?.trim().rsplit_once('-')?;
    let time = fields.next()?.trim();
    let text = fields.next()?.trim();
    // Long ones are marked: + ! # * @ $, the longer the further.
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
    })
}
