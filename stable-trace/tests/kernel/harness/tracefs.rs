//! Events recorded by tracefs: an oracle that is independent of the agent's programs.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::host::TRACING;
use super::wait_until_within;

/// KiB of buffer for each CPU: room for some 100,000 events.
const BUFFER_KIB: &str = "16384";

/// Events take long to happen on an emulated machine.
const TIMEOUT: Duration = Duration::from_mins(2);

const INTERVAL: Duration = Duration::from_millis(20);

/// Distinguishes the names of this process's instances.
static NEXT_NUMBER: AtomicU32 = AtomicU32::new(0);

/// A tracefs instance. Removed on drop.
#[derive(Debug)]
pub(crate) struct TracefsInstance(PathBuf);

impl TracefsInstance {
    /// Records one event, such as `block/block_rq_complete`, that matches the filter. An empty
    /// filter matches all.
    pub(crate) fn recording(event: &str, filter: &str) -> Result<Self> {
        let instance = Self::create()?;
        if !filter.is_empty() {
            instance.write(&format!("events/{event}/filter"), filter)?;
        }
        instance.write(&format!("events/{event}/enable"), "1")?;
        Ok(instance)
    }

    /// Records one event of a single-threaded process and of the threads that it creates later.
    pub(crate) fn recording_process(event: &str, pid: u32) -> Result<Self> {
        let instance = Self::create()?;
        instance.write("options/event-fork", "1")?;
        instance.write("set_event_pid", &pid.to_string())?;
        instance.write(&format!("events/{event}/enable"), "1")?;
        Ok(instance)
    }

    fn create() -> Result<Self> {
        let number = NEXT_NUMBER.fetch_add(1, Relaxed);
        let name = format!("stable-trace-{}-{number}", std::process::id());
        let path = Path::new(TRACING).join("instances").join(name);
        fs::create_dir(&path).with_context(|| format!("cannot create {}", path.display()))?;
        let instance = Self(path);
        instance.write("buffer_size_kb", BUFFER_KIB)?;
        Ok(instance)
    }

    /// Records requests that fail their integrity check: errno 84, EILSEQ.
    pub(crate) fn recording_integrity_completions() -> Result<Self> {
        Self::recording("block/block_rq_complete", "error == -84")
    }

    /// The events so far, one line each.
    pub(crate) fn lines(&self) -> Result<Vec<String>> {
        check_nothing_lost(&self.0)?;
        lines(&self.0)
    }

    /// Counts the events so far by their lines.
    pub(crate) fn count(&self) -> Result<usize> {
        Ok(self.lines()?.len())
    }

    /// Counts the events so far from the buffer's statistics. Exact also if the buffer was too small
    /// to keep them: the kernel counts those that it overwrote (`overrun`,
    /// Documentation/trace/ftrace.rst, 6.18), so a test may run as long as it takes.
    pub(crate) fn hits(&self) -> Result<u64> {
        let mut hits = 0;
        for (name, value) in statistics(&self.0)? {
            match name.as_str() {
                "entries" | "overrun" => hits += value,
                "commit overrun" | "dropped events" if value != 0 => {
                    bail!("tracefs did not record events ({}: {name}: {value})", self.0.display())
                }
                _ => {}
            }
        }
        Ok(hits)
    }

    /// Makes an instance with a buffer of one page a CPU, and adds `count` events to it.
    pub(crate) fn overflowing(count: usize) -> Result<Self> {
        let instance = Self::create()?;
        instance.write("buffer_size_kb", "4")?;
        for number in 0..count {
            instance.write("trace_marker", &format!("event {number}"))?;
        }
        Ok(instance)
    }

    /// Waits until there are at least `wanted` events.
    pub(crate) fn await_hits(&self, wanted: u64) -> Result<()> {
        wait_until_within(TIMEOUT, INTERVAL, || {
            let hits = self.hits()?;
            Ok((hits < wanted).then(|| format!("tracefs has {hits} of {wanted} awaited events")))
        })
    }

    fn write(&self, name: &str, value: &str) -> Result<()> {
        write(&self.0, name, value)
    }
}

impl Drop for TracefsInstance {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.0) {
            eprintln!("cannot remove {}: {error}", self.0.display());
        }
    }
}

/// Writes a control file.
pub(crate) fn write(folder: &Path, name: &str, value: &str) -> Result<()> {
    let path = folder.join(name);
    fs::write(&path, value).with_context(|| format!("cannot write {value:?} to {}", path.display()))
}

/// The events in a buffer, one line each.
pub(crate) fn lines(folder: &Path) -> Result<Vec<String>> {
    let path = folder.join("trace");
    let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let text = String::from_utf8_lossy(&text);
    let line = |line: &&str| !line.starts_with('#') && !line.trim().is_empty();
    Ok(text.lines().filter(line).map(str::to_owned).collect())
}

/// Fails if the buffer lost an event: an incomplete oracle proves nothing.
pub(crate) fn check_nothing_lost(folder: &Path) -> Result<()> {
    for (name, value) in statistics(folder)? {
        let lost = matches!(name.as_str(), "overrun" | "commit overrun" | "dropped events");
        if lost && value != 0 {
            bail!(
                "tracefs lost events ({}: {name}: {value}): enlarge BUFFER_KIB",
                folder.display()
            );
        }
    }
    Ok(())
}

/// The buffer's statistics of all CPUs by name, without the times.
fn statistics(folder: &Path) -> Result<Vec<(String, u64)>> {
    let path = folder.join("per_cpu");
    let mut all = Vec::new();
    for cpu in fs::read_dir(&path).with_context(|| format!("cannot list {}", path.display()))? {
        let path = cpu.context("cannot list the CPUs of a buffer")?.path().join("stats");
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        all.extend(text.lines().filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_owned(), value.trim().parse().ok()?))
        }));
    }
    Ok(all)
}
