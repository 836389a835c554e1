//! Compares the throughput of wac with a C program that makes the same system calls.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::numbers::{Numbers, number};
use super::table::Table;
use crate::scratch::Scratch;
use crate::setup::debian;
use crate::{progress, shell};

const SOURCE: &str = include_str!("wac.c");

/// Parameters of both programs: threads, bytes of the file, bytes of a write.
const THREADS: u32 = 64;
const FILE_SIZE: u32 = 64 << 10;
const IO_SIZE: u32 = 4096;

/// Duration of one run.
const RUN: Duration = Duration::from_secs(3);

pub(crate) fn bench(agent: &Path, rounds: u32) -> Result<()> {
    debian::ensure(&[("gcc", "cc"), ("libc6-dev", "/usr/include/stdio.h")])?;
    let folder = tempfile::tempdir().context("cannot create a folder for the C program")?;
    let c_program = compile(folder.path())?;
    let scratch = Scratch::ext4()?;
    let path = scratch.mount_point();
    // Warm-up.
    run_wac(agent, &path)?;
    run_c(&c_program, &path)?;
    let (mut wac, mut c) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        progress::step(format!("wac: round {} of {rounds}", round + 1));
        // The order alternates, so that a drift affects both.
        for turn in 0..2 {
            if (turn + round) % 2 == 0 {
                wac.push(run_wac(agent, &path)?);
            } else {
                c.push(run_c(&c_program, &path)?);
            }
        }
    }
    println!(
        "\nwac a, {THREADS} threads, {} KiB, ext4 on a loop device with stable pages; {rounds} rounds of {} s\n",
        FILE_SIZE >> 10,
        RUN.as_secs()
    );
    let ratios = Numbers::new(wac.iter().zip(&c).map(|(wac, c)| wac / c));
    let (wac, c) = (Numbers::new(wac), Numbers::new(c));
    let mut table =
        Table::new(["", "operations per second", "ratio of medians", "ratio within a round"]);
    let share = number(wac.median() / c.median(), 3);
    table.row(["C".to_owned(), c.text(0), "1".to_owned(), "1".to_owned()]);
    table.row(["stable-trace wac".to_owned(), wac.text(0), share, ratios.text(3)]);
    println!("{table}");
    Ok(())
}

fn compile(folder: &Path) -> Result<PathBuf> {
    let (source, program) = (folder.join("wac.c"), folder.join("wac"));
    fs::write(&source, SOURCE).context("cannot write the C program")?;
    let options = ["-O2", "-Wall", "-Wextra", "-Werror", "-pthread", "-o"];
    shell::run(Command::new("cc").args(options).arg(&program).arg(&source))
        .context("the C program does not compile")?;
    Ok(program)
}

fn run_wac(agent: &Path, folder: &Path) -> Result<f64> {
    let mut command = Command::new(agent);
    command.args(["wac", "--no-trace", "-q", "--format=json", "--profile=a"]);
    command.arg(format!("--threads={THREADS}"));
    command.arg(format!("--file-size={FILE_SIZE}"));
    command.arg(format!("--io-size={IO_SIZE}"));
    command.arg(format!("--duration={}ms", RUN.as_millis()));
    command.arg("--path").arg(folder);
    run(&mut command)
}

fn run_c(program: &Path, folder: &Path) -> Result<f64> {
    let mut command = Command::new(program);
    command.arg(folder);
    for number in [THREADS, FILE_SIZE, IO_SIZE] {
        command.arg(number.to_string());
    }
    command.arg(RUN.as_millis().to_string());
    run(&mut command)
}

fn run(command: &mut Command) -> Result<f64> {
    rate(&shell::output(command)?)
        .with_context(|| format!("`{}` printed no final event", shell::describe(command)))
}

/// Operations per second in the last line of a stream.
fn rate(stream: &str) -> Option<f64> {
    let line: Value = serde_json::from_str(stream.lines().last()?).ok()?;
    let finished = line["state"] == "finished";
    finished.then(|| Some(line["operations"].as_f64()? / line["elapsed_ns"].as_f64()? * 1e9))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_uses_the_measured_duration() {
        let stream = "{\"state\":\"started\"}\n\
                    {\"state\":\"finished\",\"operations\":500,\"elapsed_ns\":2000000000}\n";
        assert_eq!(rate(stream), Some(250.0));
        assert_eq!(rate("{\"state\":\"progress\",\"operations\":1,\"elapsed_ns\":1}"), None);
        assert_eq!(rate(""), None);
    }
}
