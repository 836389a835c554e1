//! A reader that stops or is slow, and a disk that is full: the run goes on, and what an output lacks is counted.

use std::fs;
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::Signal;
use stable_trace_analysis::event::{Event, Line, Output, Summary};
use tempfile::TempDir;

use crate::harness::process::{KillOnDrop, kill_with_parent, send_signal};
use crate::harness::{
    Agent, Disk, Fs, Recording, Requirement, Scrape, Scratch, Test, TracefsInstance, Wac,
    every_wait_is_accounted_for, host, program, wait_until,
};

pub(crate) fn tests() -> Vec<Test> {
    let native = |name: &str, body: fn() -> Result<()>| {
        Test::native(name, body).requires_traced_loop_device()
    };
    vec![
        native("a_reader_that_stops_holds_nothing_up", || stopped_reader(false)),
        native("a_reader_of_both_streams_that_stops_holds_nothing_up", || stopped_reader(true)),
        native("a_slow_reader_gets_every_line", slow_reader),
        native("a_fifo_waits_for_its_reader", fifo).requires(Requirement::Program("mkfifo")),
        native("a_full_disk_ends_the_recording_only", || full_disk("run.jsonl", "1m")),
        native("a_full_disk_ends_the_compressed_recording_only", || {
            full_disk("run.jsonl.zst", "256k")
        })
        .requires(Requirement::Program("zstd")),
        native("a_full_disk_ends_the_stream_only", full_disk_of_the_stream),
    ]
}

/// An agent whose standard output is read by the test itself.
struct Piped {
    child: KillOnDrop,
    out: BufReader<ChildStdout>,
    start: Line,
}

impl Piped {
    /// Starts it, and reads its `start` line. With `both`, standard error is the same pipe.
    fn start(arguments: &[&str], both: bool) -> Result<Self> {
        let mut command = if both {
            let mut shell = Command::new("sh");
            shell.args(["-c", "exec \"$0\" \"$@\" 2>&1"]).arg(Agent::program());
            shell
        } else {
            Command::new(Agent::program())
        };
        command.args(["--format=json", "--min-latency=0"]).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        kill_with_parent(&mut command);
        let mut child = KillOnDrop(command.spawn().context("cannot start the agent")?);
        let mut out = BufReader::new(child.stdout.take().context("no standard output")?);
        let mut lines = String::new();
        let start = loop {
            let mut text = String::new();
            ensure!(out.read_line(&mut text)? > 0, "the agent ended: {lines}");
            // With `both`, messages come before it.
            if let Ok(line) = serde_json::from_str::<Line>(&text) {
                break line;
            }
            lines.push_str(&text);
        };
        Ok(Self { child, out, start })
    }

    fn url(&self) -> Result<&str> {
        match &self.start.event {
            Event::Start(start) => start.metrics.as_deref().context("no URL of metrics"),
            other => anyhow::bail!("not a start: {other:?}"),
        }
    }

    /// Waits until it has ended by itself.
    fn await_end(&mut self) -> Result<ExitStatus> {
        let mut status = None;
        wait_until(|| {
            status = self.child.try_wait()?;
            Ok(status.is_none().then(|| "the agent has not ended".to_owned()))
        })?;
        status.context("no exit status")
    }
}

/// The complete lines of a stream; other text is left out.
fn events(text: &[u8]) -> Vec<Line> {
    let complete = text.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
    complete.filter_map(|line| serde_json::from_slice(line).ok()).collect()
}

fn summary(lines: &[Line]) -> Result<&Summary> {
    match lines.last().map(|line| &line.event) {
        Some(Event::Summary(summary)) => Ok(summary),
        other => anyhow::bail!("the last line is no summary: {other:?}"),
    }
}

fn stalls(lines: &[Line]) -> u64 {
    lines.iter().filter(|line| matches!(line.event, Event::Stall(_))).count() as u64
}

/// The lines have all sequence numbers from 1 on.
fn is_complete(lines: &[Line]) -> Result<()> {
    let gap = lines.iter().zip(1..).find(|(line, seq)| line.seq != *seq);
    ensure!(gap.is_none(), "line {gap:?} of {} is not the next one", lines.len());
    Ok(())
}

/// Scrapes are answered and SIGINT ends the run while a pipe is full. Each line was read, or is counted.
fn stopped_reader(both: bool) -> Result<()> {
    const LOST: &str = "stable_trace_output_lost_total";
    let scratch = Scratch::with_stable_writes(Fs::Ext4, Disk::loop_device(64)?, true)?;
    let mut wac = Wac::spawn_paused(scratch.path(), "a")?;
    let waits = TracefsInstance::recording_process(&host::wait_event(), wac.pid())?;
    let folder = tempfile::tempdir()?;
    let record = folder.path().join("run.jsonl");
    let pid = wac.pid().to_string();
    let arguments = ["--listen=127.0.0.1:0", "--pid", &pid, "--record", &record.to_string_lossy()];
    let mut agent = Piped::start(&arguments, both)?;

    wac.start()?;
    wait_until(|| {
        let scrape = Scrape::at(agent.url()?)?;
        let lost = scrape.sum(LOST, &[("output", "stdout")]);
        // Soon: what is produced until then finds room in the recording's queue and in the ring, however slow a debug
        // build writes beside 64 busy threads.
        Ok((lost < 1_000.0).then(|| format!("{lost} lines lost: {}", scrape.page)))
    })?;
    wac.stop()?;
    // The scrape comes after all stalls, so that the metrics and the summary have the same counts.
    let scrape = Scrape::at(agent.url()?)?;
    send_signal(agent.child.id(), Signal::INT)?;
    let status = agent.await_end()?;
    ensure!(status.code() == Some(0), "{status}");

    let mut rest = Vec::new();
    agent.out.read_to_end(&mut rest)?;
    let mut read = vec![agent.start.clone()];
    read.extend(events(&rest));
    let recorded = events(&fs::read(&record)?);
    let summary = summary(&recorded)?;
    let lost = summary.outputs_lost.get(&Output::Stdout).copied().unwrap_or_default();
    eprintln!("{} lines recorded, {} read, {lost} lost", recorded.len(), read.len());
    is_complete(&recorded)?;
    ensure!(
        read.len() as u64 + lost == recorded.len() as u64,
        "{} lines were read, {lost} are counted as lost, {} were recorded",
        read.len(),
        recorded.len()
    );
    ensure!(!summary.outputs_lost.contains_key(&Output::Recording), "{summary:#?}");
    ensure!(scrape.sum(LOST, &[("output", "recording")]) == 0.0, "{}", scrape.page);
    let reported = recorded.iter().find_map(|line| match &line.event {
        Event::Lost(lost) => lost.output,
        _ => None,
    });
    ensure!(reported == Some(Output::Stdout), "no `lost` line names the output");
    let stalls = stalls(&recorded);
    ensure!(
        summary.stalls_total == stalls + summary.events_lost,
        "{stalls} stalls were recorded: {summary:#?}"
    );
    every_wait_is_accounted_for(summary, waits.hits()?)
}

/// Reads in small pieces, with a rest after each.
fn read_slowly(mut out: impl Read) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let count = out.read(&mut piece)?;
        if count == 0 {
            return Ok(all);
        }
        all.extend_from_slice(&piece[..count]);
        thread::sleep(Duration::from_millis(2));
    }
}

/// More lines than a queue holds are produced faster than the reader reads. They wait in the ring.
fn slow_reader() -> Result<()> {
    const WAITS: u64 = 30_000;
    let scratch = Scratch::with_stable_writes(Fs::Ext4, Disk::loop_device(64)?, true)?;
    let mut wac = Wac::spawn_paused(scratch.path(), "a")?;
    let waits = TracefsInstance::recording_process(&host::wait_event(), wac.pid())?;
    let pid = wac.pid().to_string();
    let arguments = ["--listen=off", "--pid", &pid, "--ring-size=64MiB"];
    let Piped { child, out, start } = Piped::start(&arguments, false)?;
    let reader = thread::spawn(move || read_slowly(out));
    wac.start()?;
    waits.await_hits(WAITS)?;
    wac.stop()?;
    send_signal(child.id(), Signal::INT)?;
    let rest = reader.join().ok().context("the reader has panicked")??;

    let mut lines = vec![start];
    lines.extend(events(&rest));
    is_complete(&lines)?;
    let summary = summary(&lines)?;
    eprintln!("{} lines read, {} waits", lines.len(), waits.hits()?);
    ensure!(summary.outputs_lost.is_empty() && summary.events_lost == 0, "{summary:#?}");
    ensure!(summary.stalls_total == stalls(&lines), "{summary:#?}");
    ensure!(stalls(&lines) > 16_384, "too few stalls: {summary:#?}");
    every_wait_is_accounted_for(summary, waits.hits()?)
}

/// The command of the run is the reader, so nobody reads when the agent opens the FIFO.
fn fifo() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let [fifo, first] = ["fifo", "first"].map(|name| folder.path().join(name));
    program::run("mkfifo", &[&fifo.display().to_string()])?;
    let output = Agent::command()
        .args(["run", "--format=json", "--listen=off", "-o"])
        .arg(&fifo)
        .args(["--", "sh", "-c", "head -n 1 \"$0\" > \"$1\"; exit 7"])
        .args([&fifo, &first])
        .output()
        .context("cannot start the agent")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(7), "{}: {errors}", output.status);
    let line: Line = serde_json::from_str(&fs::read_to_string(&first)?)?;
    ensure!(matches!(line.event, Event::Start(_)), "{line:?}");
    Ok(())
}

/// A small file system in memory. Unmounted on drop.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount(size: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let options = std::ffi::CString::new(format!("size={size}"))?;
        mount("none", folder.path(), "tmpfs", MountFlags::empty(), Some(options.as_c_str()))
            .context("cannot mount a tmpfs")?;
        Ok(Self(folder))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if let Err(error) = unmount(self.0.path(), UnmountFlags::DETACH) {
            eprintln!("cannot unmount {}: {error}", self.0.path().display());
        }
    }
}

/// Traces a command that stalls until the file is full and for a while longer, and then exits with 7.
fn run_command(scratch: &Scratch, option: &str, file: &Path, lost: Output) -> Result<Recording> {
    // It ends when the agent has counted lost lines, which this test creates a file for, or when the agent, its parent,
    // is gone. With more threads the stream would lack many lines, too.
    let script = "\"$0\" wac --no-trace -q --profile=a --threads=4 --duration=1h --path \"$1\" >/dev/null & \
                  while [ ! -e \"$2\" ] && kill -0 $PPID 2>/dev/null; do sleep 0.1; done; \
                  kill $!; wait $!; exit 7";
    let folder = tempfile::tempdir()?;
    let (program, go) = (Agent::program(), folder.path().join("go"));
    let options = ["run", "--min-latency=0", "--listen=127.0.0.1:0", option];
    let mut arguments: Vec<&Path> = options.map(Path::new).into();
    arguments.push(file);
    arguments.extend(["--", "sh", "-c", script].map(Path::new));
    arguments.extend([&program, scratch.path(), &go]);
    let agent = Agent::start(arguments)?;
    wait_until(|| {
        let lost =
            Scrape::of(&agent)?.sum("stable_trace_output_lost_total", &[("output", lost.name())]);
        Ok((lost < 1_000.0).then(|| format!("{lost} lines are lost")))
    })?;
    fs::write(&go, [])?;
    agent.wait()
}

/// One warning, the summary, and the status of the command.
fn goes_on(run: &Recording, output: Output) -> Result<u64> {
    ensure!(run.status.code() == Some(7), "{}: {}", run.status, run.errors);
    let warnings = run.errors.lines().filter(|line| line.contains("No space left on device"));
    ensure!(warnings.count() == 1, "{}", run.errors);
    let lost = run.summary()?.outputs_lost.get(&output).copied().unwrap_or_default();
    ensure!(lost >= 1_000, "{lost} lines lost: {}", run.errors);
    Ok(lost)
}

fn full_disk(name: &str, size: &str) -> Result<()> {
    let scratch = Scratch::with_stable_writes(Fs::Ext4, Disk::loop_device(64)?, true)?;
    let disk = SmallDisk::mount(size)?;
    let file = disk.file(name);
    let run = run_command(&scratch, "--record", &file, Output::Recording)?;
    let lost = goes_on(&run, Output::Recording)?;
    // A fast machine makes more lines than the stream takes.
    let all = run.lines.last().context("no line")?.seq;

    let output = Agent::output(["report".as_ref(), file.as_os_str()])?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1), "{}: {errors}", output.status);
    ensure!(errors.lines().count() == 1 && errors.contains("cut off"), "{errors}");
    let text = if file.extension().is_some_and(|extension| extension == "zst") {
        Command::new("zstd").args(["-d", "-c"]).arg(&file).output()?.stdout
    } else {
        fs::read(&file)?
    };
    ensure!(text.ends_with(b"\n"), "the recording ends within a line");
    let mut recorded = events(&text);
    let mark = recorded.pop_if(|line| matches!(&line.event, Event::Lost(lost) if lost.ended));
    ensure!(mark.is_some(), "the recording is not marked as cut: {errors}");
    is_complete(&recorded)?;
    let recorded_count = recorded.len() as u64;
    let streamed: Vec<_> = run.lines.iter().filter(|line| line.seq <= recorded_count).collect();
    ensure!(streamed.len() > 1_000, "{} of the recorded lines were streamed", streamed.len());
    let differs = streamed.iter().find(|line| {
        recorded.binary_search_by_key(&line.seq, |other| other.seq).map(|at| &recorded[at])
            != Ok(line)
    });
    ensure!(differs.is_none(), "{differs:?} is recorded otherwise");
    eprintln!("{all} lines, {recorded_count} recorded, {lost} lost");
    ensure!(recorded_count + lost == all, "not every line is counted");
    Ok(())
}

fn full_disk_of_the_stream() -> Result<()> {
    let scratch = Scratch::with_stable_writes(Fs::Ext4, Disk::loop_device(64)?, true)?;
    let disk = SmallDisk::mount("1m")?;
    let mut wac = Wac::spawn_paused(scratch.path(), "a")?;
    let folder = tempfile::tempdir()?;
    let record = folder.path().join("run.jsonl");
    let file = disk.file("out.jsonl");
    let waits = TracefsInstance::recording_process(&host::wait_event(), wac.pid())?;
    let mut command = Agent::command();
    command
        .args(["--format=json", "--min-latency=0", "--listen=off", "--pid"])
        .arg(wac.pid().to_string())
        .arg("--record")
        .arg(&record)
        .arg("-o")
        .arg(&file)
        .stderr(Stdio::piped());
    kill_with_parent(&mut command);
    let child = command.spawn()?;
    let mut child = KillOnDrop(child);
    wait_until(|| {
        let begun = fs::read(&record).is_ok_and(|text| !text.is_empty());
        Ok((!begun).then(|| "nothing is recorded".to_owned()))
    })?;
    wac.start()?;
    waits.await_hits(20_000)?;
    wac.stop()?;
    send_signal(child.id(), Signal::INT)?;
    let status = child.wait()?;
    let mut errors = String::new();
    child.stderr.take().context("no standard error")?.read_to_string(&mut errors)?;
    ensure!(status.code() == Some(0), "{status}: {errors}");
    ensure!(errors.lines().count() == 1 && errors.contains("-o "), "{errors}");
    let recorded = events(&fs::read(&record)?);
    is_complete(&recorded)?;
    let lost = summary(&recorded)?.outputs_lost.get(&Output::File).copied().unwrap_or_default();
    let written = events(&fs::read(&file)?);
    eprintln!("{} lines recorded, {} written, {lost} lost", recorded.len(), written.len());
    ensure!(lost > 0 && written.len() as u64 + lost == recorded.len() as u64, "{errors}");
    Ok(())
}
