//! A recording equals the stream of its run: while it grows, when it is complete, and after a kill.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use stable_trace_analysis::event::{Event, Line};

use crate::harness::{Agent, Disk, Fs, Requirement, Scratch, Test, Wac, wait_until};

/// Stalls that a test waits for before it ends the run.
const SOME: u64 = 300;

/// Part of every stall's line.
const STALL: &[u8] = br#""type":"stall""#;

pub(crate) fn tests() -> Vec<Test> {
    let anywhere = |name: &str, body: fn() -> Result<()>| {
        Test::anywhere(name, body).requires_all([
            Requirement::Root,
            Requirement::Agent,
            Requirement::Program("losetup"),
        ])
    };
    vec![
        anywhere("equals_the_stream", || equals_stream("run.jsonl")),
        anywhere("compressed_equals_the_stream", || equals_stream("run.jsonl.zst"))
            .requires(Requirement::Program("zstd")),
        anywhere("is_followed_to_its_end", followed),
        anywhere("of_a_killed_run_is_reported_as_incomplete", killed),
        anywhere("into_a_missing_folder_is_refused", refused),
    ]
}

/// A workload that stalls and an agent that records it.
struct Run {
    // Dropped in this order: the file system is unmounted after its users have ended.
    agent: Agent,
    _wac: Wac,
    _scratch: Scratch,
}

impl Run {
    fn start(recording: &Path) -> Result<Self> {
        let scratch = Scratch::with_stable_writes(Fs::Ext4, Disk::loop_device(64)?, true)?;
        let mut wac = Wac::spawn_paused(scratch.path(), "a")?;
        let pid = wac.pid().to_string();
        let record = recording.to_str().context("the path is not UTF-8")?;
        let agent = Agent::start(["--record", record, "--min-latency", "100us", "--pid", &pid])?;
        wac.start()?;
        Ok(Self { agent, _wac: wac, _scratch: scratch })
    }
}

fn report(recording: &Path) -> Result<Output> {
    Agent::output(["report".as_ref(), "--format=json".as_ref(), recording.as_os_str()])
}

/// Whether a line is what the HTML report shows, which is no event.
fn is_report(line: &str) -> bool {
    line.starts_with(r#"{"type":"report","#)
}

fn lines(output: &[u8]) -> Result<Vec<Line>> {
    let text = std::str::from_utf8(output).context("the report is not UTF-8")?;
    text.lines()
        .filter(|line| !is_report(line))
        .map(|line| serde_json::from_str(line).with_context(|| format!("not an event: {line}")))
        .collect()
}

/// The recording's text, decompressed by the zstd program.
fn text(recording: &Path) -> Result<Vec<u8>> {
    if recording.extension().is_none_or(|ending| ending != "zst") {
        return std::fs::read(recording).context("cannot read the recording");
    }
    let output = Command::new("zstd")
        .args(["-d", "-c"])
        .arg(recording)
        .output()
        .context("cannot start zstd")?;
    ensure!(output.status.success(), "zstd: {}", String::from_utf8_lossy(&output.stderr));
    Ok(output.stdout)
}

fn equals_stream(name: &str) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join(name);
    let Run { mut agent, _wac, _scratch } = Run::start(&path)?;
    agent.await_stalls(SOME)?;
    let live = agent.stop()?;
    ensure!(live.status.success(), "{}: {}", live.status, live.errors);

    let recorded = lines(&text(&path)?)?;
    ensure!(recorded == live.lines, "{} lines, not {}", recorded.len(), live.lines.len());
    let output = report(&path)?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {errors}", output.status);
    ensure!(errors.is_empty(), "{errors}");
    let reported = lines(&output.stdout)?;
    ensure!(reported.first() == live.lines.first(), "another start: {:?}", reported.first());
    ensure!(reported.last() == live.lines.last(), "another summary: {:?}", reported.last());
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(text.lines().filter(|line| is_report(line)).count() == 1, "{text}");
    Ok(())
}

fn follow(recording: &Path) -> Result<Child> {
    Command::new(Agent::program())
        .args(["report", "--follow", "--format=json"])
        .arg(recording)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start the report")
}

fn followed() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("run.jsonl");
    let Run { mut agent, _wac, _scratch } = Run::start(&path)?;
    let mut follower = follow(&path)?;
    let mut out =
        BufReader::new(follower.stdout.take().context("the report has no standard output")?);
    let mut seen = Vec::new();
    // The run continues until the follower has printed these.
    while seen.iter().filter(|line: &&Line| matches!(line.event, Event::Stall(_))).count() < 50 {
        let mut line = String::new();
        ensure!(out.read_line(&mut line)? > 0, "the report ended before the run");
        seen.push(serde_json::from_str(&line)?);
    }
    agent.await_stalls(SOME)?;
    let live = agent.stop()?;
    for line in out.lines() {
        seen.push(serde_json::from_str(&line?)?);
    }
    let status = follower.wait()?;
    ensure!(status.success(), "{status}");
    ensure!(seen == live.lines, "{} lines, not {}", seen.len(), live.lines.len());
    Ok(())
}

fn killed() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("run.jsonl");
    let Run { mut agent, _wac, _scratch } = Run::start(&path)?;
    agent.await_stalls(SOME)?;
    // The stream and the recording are written independently.
    wait_until(|| {
        let has = text(&path)?.windows(STALL.len()).any(|bytes| bytes == STALL);
        Ok((!has).then(|| "no stall in the recording".to_owned()))
    })?;
    // Kills the agent.
    drop(agent);

    let output = report(&path)?;
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(1), "{}: {errors}", output.status);
    ensure!(errors.lines().count() == 1 && errors.contains("run.jsonl: "), "{errors}");
    ensure!(errors.contains("(at byte "), "the error has no byte offset: {errors}");
    let reported = lines(&output.stdout)?;
    let Some(Event::Summary(summary)) = reported.last().map(|line| &line.event) else {
        anyhow::bail!("no summary: {reported:?}")
    };
    ensure!(summary.incomplete, "{summary:?}");
    let recorded = text(&path)?;
    let recorded = recorded.split(|byte| *byte == b'\n');
    let stalls = recorded
        .filter_map(|line| serde_json::from_slice::<Line>(line).ok())
        .filter(|line| matches!(line.event, Event::Stall(_)))
        .count() as u64;
    ensure!(stalls > 0 && summary.stalls_total == stalls, "{} of {stalls}", summary.stalls_total);
    Ok(())
}

fn refused() -> Result<()> {
    let output = Agent::output(["--record", "/no/such/folder/run.jsonl", "--duration", "1s"])?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1), "{}: {errors}", output.status);
    ensure!(errors.contains("--record /no/such/folder/run.jsonl"), "{errors}");
    Ok(())
}
