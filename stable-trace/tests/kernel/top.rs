//! The live view, in a pseudo-terminal.

use std::process::Command;

use anyhow::{Result, ensure};

use crate::harness::terminal::Terminal;
use crate::harness::{Agent, Disk, Fs, Scratch, Test, Wac};

pub(crate) fn tests() -> Vec<Test> {
    vec![Test::anywhere("shows_a_workload_and_obeys_keys", shows).requires_traced_loop_device()]
}

fn shows() -> Result<()> {
    let scratch = Scratch::with_stable_writes(Fs::Ext4, Disk::loop_device(64)?, true)?;
    let device = scratch.disk().name.clone();
    let mut command = Command::new(Agent::program());
    command.args(["top", "--min-latency=0", "--listen=off"]);
    let mut terminal = Terminal::start(command, 80, 24)?;
    let row = |text: &str| {
        let mut rows = text.lines().map(str::split_whitespace);
        rows.find_map(|mut words| {
            (words.next() == Some(&device) && words.next() == Some("ext4"))
                .then(|| words.map(str::to_owned).collect::<Vec<_>>())
        })
    };
    terminal.await_text("of a mounted device", |text| row(text).is_some())?;
    ensure!(terminal.has_own_screen(), "the view is written into the scrollback");

    let mut wac = Wac::spawn_paused(scratch.path(), "a")?;
    wac.start()?;
    let stalls = |text: &str| row(text)?.last()?.parse::<u64>().ok();
    terminal.await_text("that of a workload", |text| {
        let has_rate = row(text).is_some_and(|row| row.first().is_some_and(|rate| rate != "0"));
        has_rate && stalls(text) > Some(100) && text.contains("wac")
    })?;

    terminal.press("p")?;
    terminal.await_text("paused", |text| text.contains("PAUSED"))?;
    let paused = stalls(&terminal.text());
    terminal.press("s")?;
    terminal.await_text("sorted", |text| text.contains("Devices, by number"))?;
    ensure!(stalls(&terminal.text()) == paused, "it counts on: {}", terminal.text());
    terminal.press("p/no such name\r")?;
    terminal.await_text("filtered", |text| row(text).is_none() && !text.contains("PAUSED"))?;
    terminal.press("\x1b")?;
    terminal.await_text("complete again", |text| row(text).is_some())?;

    terminal.resize(120, 40)?;
    terminal.await_text("larger", |text| {
        let rows: Vec<_> = text.lines().collect();
        rows.len() == 40 && rows.last().is_some_and(|last| last.starts_with("q quit"))
    })?;
    wac.stop()?;

    terminal.press("q")?;
    let status = terminal.wait()?;
    ensure!(status.success(), "{status}: {}", terminal.text());
    terminal.await_text("the summary", |text| text.contains("stalls in"))?;
    ensure!(!terminal.has_own_screen(), "the terminal is not as before");
    Ok(())
}
