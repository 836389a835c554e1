//! Events as tracefs counts them: an oracle beside our own programs.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use super::host::TRACING;

/// KiB of buffer for each CPU: room for some 100,000 events.
const BUFFER_KIB: &str = "16384";

/// How long events may be awaited: an emulated machine takes its time.
const LIMIT: Duration = Duration::from_mins(2);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// How many there have been: two of one event have two names.
static MADE: AtomicU32 = AtomicU32::new(0);

/// An instance of its own, gone when it is dropped.
#[derive(Debug)]
pub struct TracefsInstance(PathBuf);

impl TracefsInstance {
    /// Records one event such as `block/block_rq_complete` where the filter holds; an empty
    /// filter always does.
    pub fn recording(event: &str, filter: &str) -> Result<Self> {
        let instance = Self::silent()?;
        if !filter.is_empty() {
            instance.write(&format!("events/{event}/filter"), filter)?;
        }
        instance.write(&format!("events/{event}/enable"), "1")?;
        Ok(instance)
    }

    /// Records one event of a process that has one thread yet, and of all that it will have.
    pub fn recording_process(event: &str, pid: u32) -> Result<Self> {
        let instance = Self::silent()?;
        instance.write("options/event-fork", "1")?;
        instance.write("set_event_pid", &pid.to_string())?;
        instance.write(&format!("events/{event}/enable"), "1")?;
        Ok(instance)
    }

    fn silent() -> Result<Self> {
        let number = MADE.fetch_add(1, Relaxed);
        let name = format!("stable-trace-{}-{number}", std::process::id());
        let path = Path::new(TRACING).join("instances").join(name);
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        let instance = Self(path);
        instance.write("buffer_size_kb", BUFFER_KIB)?;
        Ok(instance)
    }

    /// Failed completions of an integrity check: errno 84, EILSEQ.
    pub fn recording_integrity_completions() -> Result<Self> {
        Self::recording("block/block_rq_complete", "error == -84")
    }

    /// The events so far, a line each.
    pub fn lines(&self) -> Result<Vec<String>> {
        check_nothing_lost(&self.0)?;
        lines(&self.0)
    }

    /// How many events so far.
    pub fn count(&self) -> Result<usize> {
        Ok(self.lines()?.len())
    }

    /// The same without printing each: from the buffer's own statistics.
    pub fn hits(&self) -> Result<u64> {
        check_nothing_lost(&self.0)?;
        let entries = statistics(&self.0)?.into_iter().filter(|(name, _)| name == "entries");
        Ok(entries.map(|(_, value)| value).sum())
    }

    /// Waits until there have been so many.
    pub fn await_hits(&self, wanted: u64) -> Result<()> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let hits = self.hits()?;
            if hits >= wanted {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "tracefs has {hits} of {wanted} events awaited");
            thread::sleep(LOOK);
        }
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
pub fn write(folder: &Path, name: &str, value: &str) -> Result<()> {
    let path = folder.join(name);
    fs::write(&path, value).with_context(|| format!("cannot write {value:?} to {}", path.display()))
}

/// What a buffer holds.
pub fn lines(folder: &Path) -> Result<Vec<String>> {
    let path = folder.join("trace");
    let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let text = String::from_utf8_lossy(&text);
    let line = |line: &&str| !line.starts_with('#') && !line.trim().is_empty();
    Ok(text.lines().filter(line).map(str::to_owned).collect())
}

/// An oracle that lost something is none.
pub fn check_nothing_lost(folder: &Path) -> Result<()> {
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

/// What a buffer says of itself, name by name, for each CPU. Times are left out.
fn statistics(folder: &Path) -> Result<Vec<(String, u64)>> {
    let path = folder.join("per_cpu");
    let mut all = Vec::new();
    for cpu in fs::read_dir(&path).with_context(|| format!("cannot list {}", path.display()))? {
        let path = cpu.context("cannot list CPUs in tracefs")?.path().join("stats");
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        all.extend(text.lines().filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_owned(), value.trim().parse().ok()?))
        }));
    }
    Ok(all)
}
