//! Speed and peak memory of a report on a recording of a million events.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result};

use super::agent::{SAMPLE_INTERVAL, peak_kib};
use super::numbers::{Numbers, number};
use super::table::Table;
use crate::{progress, shell};

/// Events in the recording without its first and last line.
const EVENTS: u64 = 1_000_000;

/// A constant, so that the recording is the same in each run.
const SEED: u64 = 0x0005_7ab1_e7ac_e001;

pub(crate) fn bench(agent: &Path, rounds: u32) -> Result<()> {
    let folder = tempfile::tempdir().context("cannot create a folder for the recording")?;
    let recording = folder.path().join("million.jsonl");
    progress::step(format!("report: writing a recording of {EVENTS} events"));
    write(&recording)?;
    let compressed = compress(&recording)?;
    let mebibytes = fs::metadata(&recording).map_or(0, |file| file.len() >> 20);
    let html = folder.path().join("page.html");

    progress::step("report: running");
    println!("\nA recording of {} events, {mebibytes} MiB; {rounds} rounds\n", number(1e6, 0));
    let mut table = Table::new(["", "events per second", "minimum", "peak resident MiB"]);
    let page = ["--html".into(), html.into_os_string()];
    for (what, file, more) in [
        ("text", &recording, &[][..]),
        ("text, from zstd", &compressed, &[]),
        ("text and page", &recording, &page),
    ] {
        let (mut speeds, mut peaks) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let (seconds, kib) = run(Command::new(agent).arg("report").arg(file).args(more))?;
            #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
            {
                speeds.push(EVENTS as f64 / seconds);
                peaks.push(kib as f64 / 1024.0);
            }
        }
        let (speeds, peaks) = (Numbers::new(speeds), Numbers::new(peaks));
        table.row([
            what.to_owned(),
            number(speeds.median(), 0),
            number(speeds.spread().0, 0),
            number(peaks.spread().1, 1),
        ]);
    }
    println!("{table}");
    Ok(())
}

/// Runs the command; returns its duration in seconds and its peak resident memory in KiB.
fn run(command: &mut Command) -> Result<(f64, u64)> {
    let describe = shell::describe(command);
    let started = Instant::now();
    let mut child = command
        .stdout(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start `{describe}`"))?;
    let mut peak = 0;
    loop {
        peak = peak_kib(child.id()).max(peak);
        if let Some(status) = child.try_wait().context("cannot wait for the report")? {
            let seconds = started.elapsed().as_secs_f64();
            if !status.success() {
                return Err(shell::failed(command, status));
            }
            return Ok((seconds, peak));
        }
        thread::sleep(SAMPLE_INTERVAL);
    }
}

fn compress(recording: &Path) -> Result<PathBuf> {
    crate::setup::debian::ensure(&[("zstd", "zstd")])?;
    let compressed = recording.with_extension("jsonl.zst");
    shell::run(Command::new("zstd").args(["-q", "-f", "-o"]).arg(&compressed).arg(recording))?;
    Ok(compressed)
}

/// A pseudo-random generator: `SplitMix64`.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// Writes a recording of ten minutes: stalls of 64 threads in 16 processes on 4 disks and 20,000 files.
/// One event in 100 is an unstable write, one in 10,000 an integrity error.
fn write(path: &Path) -> Result<()> {
    let file = File::create(path).context("cannot write the recording")?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    lines(&mut out).and_then(|()| out.flush()).context("cannot write the recording")
}

fn lines(out: &mut impl Write) -> io::Result<()> {
    let mut random = Random(SEED);
    writeln!(
        out,
        r#"{{"seq":1,"time":"2026-01-02T03:00:00.000000000Z","type":"start","format":1,"version":"0.1.0","kernel":"6.12.0","arch":"x86_64","hostname":"bench","min_latency_ns":1000000,"window_ns":5000000000,"probes":[],"devices":[{{"device":"sda","dev":"8:0","stable_writes":true}}]}}"#
    )?;
    for number in 0..EVENTS {
        event(out, number, &mut random)?;
    }
    let seq = EVENTS + 2;
    writeln!(
        out,
        r#"{{"seq":{seq},"time":"2026-01-02T03:10:01.000000000Z","type":"summary","elapsed_ns":601000000000,"counts":{{}},"stalls":[],"stalls_total":{EVENTS},"stalls_below_threshold":0,"waits_without_sleep":0,"waits_repeated":0,"waits_unfinished":0,"events_lost":0,"records_malformed":0,"probe_runs_missed":{{}},"agent_cpu_ns":0,"bpf_cpu_ns":0}}"#
    )
}

fn event(out: &mut impl Write, number: u64, random: &mut Random) -> io::Result<()> {
    let seq = number + 2;
    let ns = number * (600_000_000_000 / EVENTS);
    let (minute, second, ns) = (ns / 60_000_000_000, ns / 1_000_000_000 % 60, ns % 1_000_000_000);
    write!(out, r#"{{"seq":{seq},"time":"2026-01-02T03:{minute:02}:{second:02}.{ns:09}Z","#)?;
    let disk = random.below(4);
    let (letter, ino) =
        (["a", "b", "c", "d"][usize::try_from(disk).unwrap_or(0)], random.below(20_000));
    let (thread, page) = (random.below(64), random.below(256));
    if number % 10_000 == 9_999 {
        let sector = random.below(1 << 30);
        return writeln!(
            out,
            r#""type":"integrity","op":"write","device":"sd{letter}","dev":"8:{}","sector":{sector},"sectors":8,"check":"guard","source":"scsi","status":"EILSEQ","pages":[{{"kind":"file","ino":{ino},"index":{page},"device":"sd{letter}","dev":"8:{}","fs":"ext4","stable":true}}],"fs":"ext4"}}"#,
            disk * 16,
            disk * 16
        );
    }
    let context =
        ["write_begin", "page_mkwrite", "sync"][usize::try_from(random.below(3)).unwrap_or(0)];
    let (kind, more) = if number % 100 == 50 {
        ("unstable_write", r#""grade":"hole","#.to_owned())
    } else {
        // From 1 µs to some seconds, each power of two equally often.
        let power = random.below(22);
        let length = (1_000 << power) + random.below(1_000 << power);
        ("stall", format!(r#""duration_ns":{length},"#))
    };
    let context = if kind == "unstable_write" { "write_begin" } else { context };
    writeln!(
        out,
        r#""type":"{kind}","context":"{context}",{more}"function":"__filemap_get_folio","pid":{},"tid":{},"comm":"worker-{thread}","cgroup_id":1,"device":"sd{letter}","dev":"8:{}","fs":"ext4","ino":{ino},"index":{page}}}"#,
        4000 + thread / 4,
        4100 + thread,
        disk * 16
    )
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn the_recording_is_json_with_ascending_numbers() {
        let (mut out, mut random) = (Vec::new(), Random(SEED));
        for number in 9_940..10_060 {
            event(&mut out, number, &mut random).unwrap();
        }
        let lines: Vec<Value> = String::from_utf8(out)
            .unwrap()
            .lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect();
        assert!(lines.windows(2).all(|two| two[0]["seq"].as_u64() < two[1]["seq"].as_u64()));
        for kind in ["stall", "unstable_write", "integrity"] {
            assert!(lines.iter().any(|line| line["type"] == kind), "{kind}");
        }
    }
}
