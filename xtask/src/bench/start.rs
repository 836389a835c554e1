//! Time from exec to all probes attached, and the agent's peak resident memory: idle and in a flood of
//! stalls.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::agent::{Agent, wac};
use super::numbers::{Numbers, number};
use super::table::Table;
use crate::progress;
use crate::scratch::Scratch;

const STARTS: u32 = 3;

/// Duration of an idle agent: several of its ticks.
const IDLE: Duration = Duration::from_millis(500);

const FLOOD: Duration = Duration::from_secs(3);

pub(crate) fn bench(agent: &Path, rounds: u32) -> Result<()> {
    progress::step("start: measuring starts");
    let (mut times, mut idle) = (Vec::new(), Vec::new());
    for _ in 0..rounds * STARTS {
        let tracing = Agent::idle(agent)?;
        times.extend(tracing.attached_after.map(|time| time.as_secs_f64() * 1e3));
        thread::sleep(IDLE);
        idle.push(mebibytes(tracing.stop()?));
    }

    progress::step("start: memory in a flood");
    let scratch = Scratch::ext4()?;
    let folder = tempfile::tempdir().context("cannot create a folder for the stream")?;
    let file = folder.path().join("stream");
    let (mut flood, mut sizes) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let options = ["--format", "json", "--min-latency", "0s"];
        let tracing = Agent::to_file(agent, &options, &file)?;
        wac(agent, &scratch.mount_point(), FLOOD)?;
        flood.push(mebibytes(tracing.stop()?));
        sizes.push(mebibytes(fs::metadata(&file).map_or(0, |file| file.len() >> 10)));
    }

    let (times, idle, flood) = (Numbers::new(times), Numbers::new(idle), Numbers::new(flood));
    println!(
        "\n{} starts; {rounds} floods (wac a, 64 threads, --min-latency 0, JSON to a file,",
        rounds * STARTS
    );
    println!("{} MiB of it in {} s)\n", Numbers::new(sizes).text(0), FLOOD.as_secs());
    let mut table = Table::new(["", "median", "p90", "minimum", "maximum"]);
    for (what, numbers) in [
        ("from exec to all attached, ms", &times),
        ("peak resident memory, idle, MiB", &idle),
        ("peak resident memory, flood, MiB", &flood),
    ] {
        let (minimum, maximum) = numbers.spread();
        let [median, p90, minimum, maximum] =
            [numbers.median(), numbers.p90(), minimum, maximum].map(|value| number(value, 1));
        table.row([what.to_owned(), median, p90, minimum, maximum]);
    }
    println!("{table}");
    Ok(())
}

#[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
fn mebibytes(kib: u64) -> f64 {
    kib as f64 / 1024.0
}
