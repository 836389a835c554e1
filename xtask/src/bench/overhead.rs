//! What tracing takes from the throughput of a workload that does nothing but stall.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::agent::{Agent, wac};
use super::numbers::{Numbers, number};
use super::table::Table;
use crate::progress;
use crate::scratch::Scratch;

/// How the workload is traced; the first one is what the others are compared with.
const MODES: [(&str, Option<&[&str]>); 3] = [
    ("not traced", None),
    ("traced, as it comes", Some(&[])),
    ("traced, `--min-latency 0 --format json`", Some(&["--min-latency", "0s", "--format", "json"])),
];

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
        // Each mode comes first, in the middle and last, so that a drift hits all of them.
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
    Ok(())
}
