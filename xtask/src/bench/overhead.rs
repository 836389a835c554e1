//! What tracing takes from the throughput of a workload that does nothing but stall.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::agent::{Agent, wac};
use super::numbers::{Numbers, number};
use super::table::Table;
use crate::progress;
use crate::scratch::Scratch;

/// How the workload is traced; the first one is what the others are compared with.
const MODES: [(&str, Option<&[&str]>); 4] = [
    ("not traced", None),
    ("traced, `--min-latency 1h`: counted, not streamed", Some(&["--min-latency", "1h"])),
    ("traced, as it comes", Some(&[])),
    ("traced, `--min-latency 0 --format json`", Some(&EVERYTHING)),
];

/// Every stall is a line.
const EVERYTHING: [&str; 4] = ["--min-latency", "0s", "--format", "json"];

/// Where the kernel is told to count what programs take.
const STATISTICS: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// How long the workload runs each time.
const RUN: Duration = Duration::from_secs(3);

pub fn bench(agent: &Path, rounds: u32) -> Result<()> {
    let scratch = Scratch::ext4()?;
    let folder = tempfile::tempdir().context("cannot make a folder for the stream")?;
    let file = folder.path().join("stream");
    // What is cold is nobody's overhead.
    wac(agent, &scratch.path(), RUN / 3)?;
    let mut measured: [Vec<f64>; MODES.len()] = Default::default();
    for round in 0..rounds {
        progress::step(format!("overhead: round {} of {rounds}", round + 1));
        // The order is another one in each round, so that a drift hits all of them.
        for turn in 0..MODES.len() {
            let index = (turn + round as usize) % MODES.len();
            let operations = match MODES[index].1 {
                None => wac(agent, &scratch.path(), RUN)?,
                Some(options) => {
                    let tracing = Agent::into_file(agent, options, &file)?;
                    let operations = wac(agent, &scratch.path(), RUN)?;
                    tracing.end()?;
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
        Table::new(["", "operations a second", "ratio of medians", "ratio within a round"]);
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
    match shares(agent, &scratch.path(), &file) {
        Ok(text) => println!("{text}\n"),
        // The kernel need not allow it.
        Err(error) => progress::step(format!("overhead: no shares of the CPU: {error:#}")),
    }
    Ok(())
}

/// Who takes how much, in a run of its own: that the kernel counts has a cost, too.
fn shares(agent: &Path, scratch: &Path, file: &Path) -> Result<String> {
    let before = fs::read_to_string(STATISTICS)?;
    fs::write(STATISTICS, "1")?;
    let ran = Agent::into_file(agent, &EVERYTHING, file).and_then(|tracing| {
        wac(agent, scratch, RUN)?;
        tracing.end()
    });
    fs::write(STATISTICS, before.trim())?;
    ran?;
    let stream = fs::read_to_string(file)?;
    let last = stream.lines().last().unwrap_or_default();
    let summary: Value = serde_json::from_str(last).context("the stream has no last line")?;
    let value = |name: &str| summary[name].as_f64().unwrap_or(f64::NAN);
    let elapsed = value("elapsed_ns");
    Ok(format!(
        "With `{}`: {} stalls a second, {} % of their lines lost; of one CPU the agent took {} %, \
         the programs {} %.",
        EVERYTHING.join(" "),
        number(value("stalls_total") / elapsed * 1e9, 0),
        number(value("events_lost") / value("stalls_total") * 100.0, 1),
        number(value("agent_cpu_ns") / elapsed * 100.0, 0),
        number(value("bpf_cpu_ns") / elapsed * 100.0, 0),
    ))
}
