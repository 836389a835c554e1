//! File systems that come and go, as volumes of containers do.

use std::fs::{self, File};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::fs::fsync;

use crate::harness::{
    Agent, Disk, Fs, Scrape, Scratch, Test, TracefsInstance, accounted_waits, host, wait_until,
    wait_until_within,
};

/// Several times what the metrics and the kernel's maps have room for.
const VOLUMES: usize = 201;

/// From here on memory must not grow: all limits have been reached.
const SETTLED: usize = 100;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::native("each_has_its_own_series_and_nothing_grows", one_after_another)
            .requires_traced_loop_device(),
    ]
}

/// How long the removal of keys may take: two intervals of the agent, and some.
const LIMIT: Duration = Duration::from_secs(40);

/// Resident memory may vary by this much.
const MEMORY_NOISE: f64 = (1 << 20) as f64;

fn one_after_another() -> Result<()> {
    // Other tasks of the machine wait too, also while the agent attaches and detaches.
    let longer = TracefsInstance::recording(&host::wait_event(), "")?;
    let agent = Agent::start(["--min-latency=1h", "--listen=127.0.0.1:0"])?;
    let shorter = TracefsInstance::recording(&host::wait_event(), "")?;
    // While they are open, no device number is used again.
    let mut disks = Vec::new();
    let mut names = Vec::new();
    let mut before = 0.0;
    let mut settled = 0.0;
    for volume in 0..VOLUMES {
        let scratch = Scratch::with_stable_writes(Fs::Ext4, Disk::loop_device(8)?, true)?;
        let device = scratch.disk().name.clone();
        disks.push(File::open(&scratch.disk().path)?);
        let path = scratch.path().join("file");
        let labels = [("device", device.as_str()), ("fs", "ext4")];
        let mut scrape = None;
        wait_until(|| {
            fs::write(&path, vec![0; 2 << 20])?;
            fsync(File::open(&path)?)?;
            let now = Scrape::of(&agent)?;
            let own = now.sum("stable_trace_stall_seconds_count", &labels);
            scrape = Some(now);
            Ok((own < 1.0).then(|| format!("no series for {device}, volume {volume}")))
        })?;
        let scrape = scrape.context("no scrape")?;
        let total = scrape.sum("stable_trace_stall_seconds_count", &[]);
        ensure!(total >= before, "{total} stalls after {before}");
        before = total;
        let memory = scrape.sum("process_resident_memory_bytes", &[]);
        if volume == SETTLED {
            settled = memory;
        }
        ensure!(
            volume < SETTLED || memory < settled + MEMORY_NOISE,
            "{memory} bytes with volume {volume}, {settled} bytes with volume {SETTLED}"
        );
        names.push(device);
    }
    // Keys of those that are gone are removed until little of the map is used.
    wait_until_within(LIMIT, Duration::from_secs(1), || {
        let scrape = Scrape::of(&agent)?;
        let of = |metric| scrape.sum(metric, &[("map", "HISTOGRAMS")]);
        let (used, capacity) = (of("stable_trace_map_entries"), of("stable_trace_map_capacity"));
        Ok((used > capacity / 4.0).then(|| format!("{used} of {capacity} entries are used")))
    })?;
    let least = shorter.hits()?;
    let recording = agent.stop()?;
    let most = longer.hits()?;
    let summary = recording.summary()?;
    let unnamed = names.iter().find(|name| {
        let own = summary.stalls.iter().filter(|line| line.device.as_deref() == Some(name));
        own.map(|line| line.count).sum::<u64>() == 0
    });
    ensure!(unnamed.is_none(), "{unnamed:?} has no line in the summary");
    ensure!(summary.map_failures.is_empty(), "{:?}", summary.map_failures);
    let accounted = accounted_waits(summary);
    ensure!(
        least <= accounted && accounted <= most,
        "tracefs counts {least} to {most} waits, the agent accounts for {accounted}: {summary:#?}"
    );
    Ok(())
}
