//! CPU time of the agent for one event, from a record of the ring to a JSON line.
//!
//! A test of the agent's own crate measures it (`stable-trace/src/trace/reader_bench.rs`): the ring has no other writer
//! than the kernel, which would cost the same CPU.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::numbers::{Numbers, number};
use super::table::Table;
use crate::{compile, progress, setup, shell, workspace};

/// The test, and what it prints before its result.
const TEST: &str = "trace::reader_bench::cpu_time_of_a_line";
const RESULT: &str = "ns a line: ";

pub(crate) fn bench(rounds: u32) -> Result<()> {
    progress::step("reader: building the measurement");
    let program = build()?;
    let mut times = Vec::new();
    for _ in 0..rounds {
        progress::step("reader: measuring");
        times.push(measure(&program)?);
    }
    let times = Numbers::new(times);
    let (least, most) = times.spread();
    println!("\nStalls to JSON lines, CPU time of all threads of the agent; {rounds} rounds\n");
    let mut table = Table::new(["", "median", "minimum", "maximum"]);
    let row = |what: &str, values: [f64; 3], digits| {
        let [median, minimum, maximum] = values.map(|value| number(value, digits));
        [what.to_owned(), median, minimum, maximum]
    };
    table.row(row("ns a line", [times.median(), least, most], 0));
    let rate = |ns: f64| 1e9 / ns;
    table.row(row("lines a second on one CPU", [rate(times.median()), rate(most), rate(least)], 0));
    println!("{table}");
    Ok(())
}

/// Builds the unit tests of the agent as for a release.
fn build() -> Result<PathBuf> {
    let target = setup::rust::ensure_musl()?;
    let mut command = workspace::cargo()?;
    command.args(["test", "--no-run", "--release", "--lib", "--package", "stable-trace"]);
    command.args(["--target", &target, "--message-format=json-render-diagnostics"]);
    compile::executable(&compile::messages(&mut command)?, "stable_trace", Some("lib"))
        .context("cargo built the unit tests but reported no executable")
}

/// One measurement in ns.
fn measure(program: &PathBuf) -> Result<f64> {
    let mut command = Command::new(program);
    command.args(["--ignored", "--exact", TEST, "--nocapture"]);
    let output = command
        .output()
        .with_context(|| format!("cannot start `{}`", shell::describe(&command)))?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let result = text.split_once(RESULT).and_then(|(_, rest)| rest.split_whitespace().next());
    result.context("the measurement printed no result")?.parse().context("the result is no number")
}
