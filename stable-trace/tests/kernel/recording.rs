//! Recordings: what a run said is what its recording tells, while it grows, when it is whole, and when
//! the run was killed.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use stable_trace_analysis::event::{Event, Line};

use crate::bed::{Agent, Disk, Fs, Need, Scratch, Test, Wac, eventually};

/// Stalls that are awaited before a run is ended.
const SOME: u64 = 300;

/// What a stall's line has.
const STALL: &[u8] = br#""type":"stall""#;

pub fn tests() -> Vec<Test> {
    let on_loop =
        |test: Test| test.needs(Need::Root).needs(Need::Agent).needs(Need::Program("losetup"));
    vec![
        on_loop(Test::both("recording_tells_what_the_run_said", || same("run.jsonl"))),
        on_loop(Test::both("recording_compressed_tells_the_same", || same("run.jsonl.zst")))
            .needs(Need::Program("zstd")),
        on_loop(Test::both("recording_can_be_followed_to_its_end", followed)),
        on_loop(Test::both("recording_of_a_killed_run_tells_what_it_has", killed)),
        on_loop(Test::both("recording_that_cannot_be_written_is_refused", refused)),
    ]
}

/// A workload that stalls, an agent that records it, and where to.
struct Run {
    // Dropped in this order: whoever holds the file system open goes first.
    agent: Agent,
    _wac: Wac,
    _scratch: Scratch,
}

impl Run {
    fn start(recording: &Path) -> Result<Self> {
        let scratch = Scratch::with_stable_writes(Fs::Ext4, Disk::looped(64)?, true)?;
        let mut wac = Wac::ready(scratch.path(), "a")?;
        let pid = wac.pid().to_string();
        let record = recording.to_str().context("a path that is no text")?;
        let agent = Agent::start(["--record", record, "--min-latency", "100us", "--pid", &pid])?;
        wac.go()?;
        Ok(Self { agent, _wac: wac, _scratch: scratch })
    }
}

fn report(recording: &Path) -> Result<Output> {
    Agent::output(["report".as_ref(), "--format=json".as_ref(), recording.as_os_str()])
}

fn lines(output: &[u8]) -> Result<Vec<Line>> {
    let text = std::str::from_utf8(output).context("the report is no text")?;
    text.lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("no line: {line}")))
        .collect()
}

/// The recording's text; Debian's own zstd unpacks it.
fn text(recording: &Path) -> Result<Vec<u8>> {
    if recording.extension().is_none_or(|ending| ending != "zst") {
        return std::fs::read(recording).context("there is no recording");
    }
    let output = Command::new("zstd")
        .args(["-d", "-c"])
        .arg(recording)
        .output()
        .context("cannot start zstd")?;
    ensure!(output.status.success(), "zstd: {}", String::from_utf8_lossy(&output.stderr));
    Ok(output.stdout)
}

fn same(name: &str) -> Result<()> {
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
    let told = lines(&output.stdout)?;
    ensure!(told.first() == live.lines.first(), "another start: {:?}", told.first());
    ensure!(told.last() == live.lines.last(), "another summary: {:?}", told.last());
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
    let mut out = BufReader::new(follower.stdout.take().context("the report has no output")?);
    let mut seen = Vec::new();
    // While the run goes on: it is not told to end before these are here.
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
    // What was printed first need not be recorded first.
    eventually(|| {
        let has = text(&path)?.windows(STALL.len()).any(|bytes| bytes == STALL);
        Ok((!has).then(|| "no stall in the recording".to_owned()))
    })?;
    // Dropped, it is killed, and gone.
    drop(agent);

    let output = report(&path)?;
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(1), "{}: {errors}", output.status);
    ensure!(errors.lines().count() == 1 && errors.contains("run.jsonl: "), "{errors}");
    ensure!(errors.contains("(at byte "), "no place: {errors}");
    let told = lines(&output.stdout)?;
    let Some(Event::Summary(summary)) = told.last().map(|line| &line.event) else {
        anyhow::bail!("no summary: {told:?}")
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
