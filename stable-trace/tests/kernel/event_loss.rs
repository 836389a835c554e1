//! Every stall is streamed, or counted as lost or as below the threshold.

use anyhow::{Result, ensure};
use stable_trace_analysis::event::Event;

use crate::harness::{
    Agent, Disk, Fs, Recording, Scratch, Test, TracefsInstance, Wac, every_wait_is_accounted_for,
    host,
};

pub(crate) fn tests() -> Vec<Test> {
    let native = |name: &str, body: fn() -> Result<()>| {
        Test::native(name, body).requires_traced_loop_device()
    };
    vec![
        native("a_small_ring_loses_events_and_counts_each", small_ring),
        native("a_large_ring_loses_no_event", large_ring),
        native("short_stalls_are_counted_and_not_streamed", short_stalls),
    ]
}

/// Traces the workload until `await_enough` returns. Returns the recording and tracefs's count.
fn trace_workload(
    options: &[&str],
    await_enough: impl FnOnce(&mut Agent) -> Result<()>,
) -> Result<(Recording, u64)> {
    let scratch = Scratch::with_stable_writes(Fs::Ext4, Disk::loop_device(64)?, true)?;
    let mut wac = Wac::spawn_paused(scratch.path(), "a")?;
    let pid = wac.pid();
    let oracle = TracefsInstance::recording_process(&host::wait_event(), pid)?;
    let pid = pid.to_string();
    let mut agent = Agent::start(["--pid", &pid].iter().chain(options))?;
    wac.start()?;
    await_enough(&mut agent)?;
    wac.stop()?;
    Ok((agent.stop()?, oracle.hits()?))
}

/// The total of stalls equals the streamed, the lost and the short ones; together with repetitions
/// and waits without sleep it equals tracefs's count.
fn every_stall_is_accounted_for(recording: &Recording, hits: u64) -> Result<()> {
    let summary = recording.summary()?;
    let lines = recording.stalls().count() as u64;
    ensure!(
        summary.stalls_total == lines + summary.events_lost + summary.stalls_below_threshold,
        "{lines} lines: {summary:#?}"
    );
    ensure!(
        summary.stalls_total == summary.stalls.iter().map(|line| line.count).sum::<u64>(),
        "{summary:#?}"
    );
    ensure!(
        recording.lost() == summary.events_lost,
        "the `lost` lines report {}",
        recording.lost()
    );
    ensure!(summary.counts.get("stall") == Some(&lines), "{lines} lines: {:?}", summary.counts);
    ensure!(summary.waits_unfinished == 0, "no task is left that waits: {summary:#?}");
    every_wait_is_accounted_for(summary, hits)
}

/// A ring of one page holds 36 records: it overflows before the agent reads it.
fn small_ring() -> Result<()> {
    let lost = |event: &Event| matches!(event, Event::Lost(lost) if lost.since_seq > 100);
    let limit = std::time::Duration::from_mins(1);
    let (recording, hits) = trace_workload(&["--min-latency=0", "--ring-size=4096"], |agent| {
        agent.await_line(limit, lost)
    })?;

    every_stall_is_accounted_for(&recording, hits)?;
    let summary = recording.summary()?;
    ensure!(summary.stalls_below_threshold == 0, "{summary:#?}");
    let unexpected = recording.lines.iter().find(
        |line| matches!(&line.event, Event::Lost(lost) if lost.since_seq != line.seq - 1 || lost.count + lost.unseen == 0),
    );
    ensure!(
        unexpected.is_none(),
        "`since_seq` is not the preceding line, or `count` is 0: {unexpected:?}"
    );
    Ok(())
}

fn large_ring() -> Result<()> {
    let options = ["--min-latency=0", "--ring-size=64MiB"];
    let (recording, hits) = trace_workload(&options, |agent| agent.await_stalls(5_000))?;

    every_stall_is_accounted_for(&recording, hits)?;
    let summary = recording.summary()?;
    ensure!(summary.events_lost == 0 && summary.stalls_below_threshold == 0, "{summary:#?}");
    Ok(())
}

fn short_stalls() -> Result<()> {
    let (recording, hits) = trace_workload(&["--min-latency=5ms"], |agent| agent.await_stalls(3))?;

    every_stall_is_accounted_for(&recording, hits)?;
    let short = recording.stalls().find(|stall| stall.duration_ns < 5_000_000);
    ensure!(short.is_none(), "{short:?}");
    let below = recording.summary()?.stalls_below_threshold;
    ensure!(below > 0, "every wait of 64 threads took 5 ms: nothing is below the threshold");
    Ok(())
}
