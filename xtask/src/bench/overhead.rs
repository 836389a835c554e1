//! Throughput of a workload that stalls all the time, with and without tracing.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::agent::{Agent, wac, with_program_statistics};
use super::numbers::{Numbers, number};
use super::table::Table;
use crate::progress;
use crate::scratch::Scratch;

/// Tracing modes; the first one is the baseline.
const MODES: [(&str, Option<&[&str]>); 4] = [
    ("not traced", None),
    ("traced, `--min-latency 1h`: counted, not streamed", Some(&["--min-latency", "1h"])),
    ("traced with default options", Some(&[])),
    ("traced, `--min-latency 0 --format json`", Some(&ALL_STALLS)),
];

/// Streams every stall.
const ALL_STALLS: [&str; 4] = ["--min-latency", "0s", "--format", "json"];

/// Duration of one run.
const RUN: Duration = Duration::from_secs(3);

pub(crate) fn bench(agent: &Path, rounds: u32) -> Result<()> {
    let scratch = Scratch::ext4()?;
    let folder = tempfile::tempdir().context("cannot create a folder for the stream")?;
    let file = folder.path().join("stream");
    // Warm-up.
    wac(agent, &scratch.mount_point(), RUN / 3)?;
    let mut measured: [Vec<f64>; MODES.len()] = Default::default();
    for round in 0..rounds {
        progress::step(format!("overhead: round {} of {rounds}", round + 1));
        // The order rotates, so that a drift affects all modes.
        for turn in 0..MODES.len() {
            let index = (turn + round as usize) % MODES.len();
            let operations = match MODES[index].1 {
                None => wac(agent, &scratch.mount_point(), RUN)?,
                Some(options) => {
                    let tracing = Agent::to_file(agent, options, &file)?;
                    let operations = wac(agent, &scratch.mount_point(), RUN)?;
                    tracing.stop()?;
                    operations
                }
            };
            measured[index].push(operations);
        }
    }
    println!(
        "\nwac a, 64 threads, 64 KiB, ext4 on a loop device with stable pages; {rounds} rounds of {} s\n",
        RUN.as_secs()
    );
    let mut table =
        Table::new(["", "operations per second", "ratio of medians", "ratio within a round"]);
    let untraced = Numbers::new(measured[0].iter().copied());
    for ((name, _), values) in MODES.iter().zip(&measured) {
        let numbers = Numbers::new(values.iter().copied());
        let ratios = Numbers::new(values.iter().zip(&measured[0]).map(|(on, off)| on / off));
        table.row([
            (*name).to_owned(),
            numbers.text(0),
            number(numbers.median() / untraced.median(), 3),
            ratios.text(3),
        ]);
    }
    println!("{table}");
    match cpu_shares(agent, &scratch.mount_point(), &file) {
        Ok(text) => println!("{text}\n"),
        // The kernel may not allow BPF statistics.
        Err(error) => progress::step(format!("overhead: CPU shares are not available: {error:#}")),
    }
    Ok(())
}

/// CPU shares of the agent and its programs. Measured in a separate run, since BPF statistics have a cost.
fn cpu_shares(agent: &Path, scratch: &Path, file: &Path) -> Result<String> {
    with_program_statistics(|| {
        let tracing = Agent::to_file(agent, &ALL_STALLS, file)?;
        wac(agent, scratch, RUN)?;
        tracing.stop()
    })?;
    let stream = fs::read_to_string(file)?;
    let last = stream.lines().last().unwrap_or_default();
    let summary: Value = serde_json::from_str(last).context("the stream has no last line")?;
    let value = |name: &str| summary[name].as_f64().unwrap_or(f64::NAN);
    let elapsed = value("elapsed_ns");
    Ok(format!(
        "With `{}`: {} stalls per second, {} % of their events lost; CPU time (100 % is one CPU): agent {} %, \
         programs {} %.",
        ALL_STALLS.join(" "),
        number(value("stalls_total") / elapsed * 1e9, 0),
        number(value("events_lost") / value("stalls_total") * 100.0, 1),
        number(value("agent_cpu_ns") / elapsed * 100.0, 0),
        number(value("bpf_cpu_ns") / elapsed * 100.0, 0),
    ))
}
