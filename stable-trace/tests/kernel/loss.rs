//! Every stall is a line, or is counted as one that was lost or too short to be one.

use anyhow::{Result, ensure};
use stable_trace_analysis::event::Event;

use crate::bed::{
    Agent, Disk, Fs, Need, Recording, Scratch, Test, TracefsInstance, Wac,
    every_wait_is_accounted_for, host,
};

pub fn tests() -> Vec<Test> {
    let native = |name: &str, story: fn() -> Result<()>| {
        Test::native(name, story)
            .needs(Need::Root)
            .needs(Need::Agent)
            .needs(Need::Tracefs)
            .needs(Need::Program("losetup"))
    };
    vec![
        native("a_flood_through_a_tiny_ring_is_counted_to_the_last", a_tiny_ring_loses_and_says_so),
        native("a_ring_with_room_loses_nothing", a_ring_with_room_loses_nothing),
        native("short_stalls_are_counted_and_not_streamed", short_stalls_are_not_streamed),
    ]
}

/// One run around the workload, up to the moment that the test waits for, and what tracefs counted.
fn flood(
    options: &[&str],
    await_enough: impl FnOnce(&mut Agent) -> Result<()>,
) -> Result<(Recording, u64)> {
    let scratch = Scratch::with_stable_writes(Fs::Ext4, Disk::looped(64)?, true)?;
    let mut wac = Wac::ready(scratch.path(), "a")?;
    let pid = wac.pid();
    let oracle = TracefsInstance::recording_process(&host::wait_event(), pid)?;
    let pid = pid.to_string();
    let mut agent = Agent::start(["--pid", &pid].iter().chain(options))?;
    wac.go()?;
    await_enough(&mut agent)?;
    wac.stop()?;
    Ok((agent.stop()?, oracle.hits()?))
}

/// What holds of every run: stalls are lines, lost lines and too short ones, and nothing else;
/// with their repetitions and the waits without sleep they are all that tracefs saw.
fn nothing_is_missing(recording: &Recording, hits: u64) -> Result<()> {
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
    ensure!(recording.lost() == summary.events_lost, "{} said to be lost", recording.lost());
    ensure!(summary.counts.get("stall") == Some(&lines), "{lines} lines: {:?}", summary.counts);
    ensure!(summary.waits_unfinished == 0, "nobody is left to wait: {summary:#?}");
    every_wait_is_accounted_for(summary, hits)
}

/// A ring of one page, 36 records: it overflows before the agent has looked.
fn a_tiny_ring_loses_and_says_so() -> Result<()> {
    let lost = |event: &Event| matches!(event, Event::Lost(lost) if lost.since_seq > 100);
    let limit = std::time::Duration::from_mins(1);
    let (recording, hits) =
        flood(&["--min-latency=0", "--ring-size=4096"], |agent| agent.await_line(limit, lost))?;

    nothing_is_missing(&recording, hits)?;
    let summary = recording.summary()?;
    ensure!(summary.stalls_below_threshold == 0, "{summary:#?}");
    let strange = recording.lines.iter().find(
        |line| matches!(&line.event, Event::Lost(lost) if lost.since_seq != line.seq - 1 || lost.count == 0),
    );
    ensure!(strange.is_none(), "not after the line before it: {strange:?}");
    Ok(())
}

fn a_ring_with_room_loses_nothing() -> Result<()> {
    let options = ["--min-latency=0", "--ring-size=64MiB"];
    let (recording, hits) = flood(&options, |agent| agent.await_stalls(5_000))?;

    nothing_is_missing(&recording, hits)?;
    let summary = recording.summary()?;
    ensure!(summary.events_lost == 0 && summary.stalls_below_threshold == 0, "{summary:#?}");
    Ok(())
}

fn short_stalls_are_not_streamed() -> Result<()> {
    let (recording, hits) = flood(&["--min-latency=5ms"], |agent| agent.await_stalls(3))?;

    nothing_is_missing(&recording, hits)?;
    let short = recording.stalls().find(|stall| stall.duration_ns < 5_000_000);
    ensure!(short.is_none(), "{short:?}");
    let below = recording.summary()?.stalls_below_threshold;
    ensure!(below > 0, "all of 64 threads' waits took 5 ms: the test shows nothing");
    Ok(())
}
