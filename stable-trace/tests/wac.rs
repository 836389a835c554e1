//! The workload as an unprivileged process in an empty directory.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests fail by panicking, and clippy sees no test in their shared functions"
)]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use stable_trace::workload::child::{Child, Message};
use stable_trace::workload::{SyncMethod, WacArgs};
use stable_trace_analysis::event::{Event, Line, Workload, WorkloadState};

const PROGRAM: &str = env!("CARGO_BIN_EXE_stable-trace");

fn wac(path: &Path, options: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(["wac", "--no-trace", "--format=json", "--threads=4", "--path"]);
    command.arg(path).args(options);
    // A run under sudo behaves as a run by root.
    command.env_remove("SUDO_UID").env_remove("SUDO_GID");
    command
}

fn lines(stdout: &[u8]) -> Vec<Workload> {
    let text = str::from_utf8(stdout).unwrap();
    let lines = text.lines().map(|line| (line, serde_json::from_str::<Line>(line).unwrap()));
    lines
        .zip(1..)
        .map(|((text, line), seq)| {
            assert_eq!(line.seq, seq);
            assert!(text.contains(&format!(r#""time":"{}""#, line.time)), "{text}");
            match line.event {
                Event::Workload(workload) => workload,
                other => panic!("not a workload event: {other:?}"),
            }
        })
        .collect()
}

fn assert_empty(directory: &Path) {
    let left: Vec<_> = std::fs::read_dir(directory).unwrap().collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}

fn assert_refused(output: &Output, expected: &str) {
    let stderr = str::from_utf8(&output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert_eq!(stderr.trim_end().lines().count(), 1, "{stderr}");
    assert!(stderr.contains(expected), "{stderr} lacks {expected}");
    assert!(output.stdout.is_empty());
}

#[test]
fn every_buffered_profile_works_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let options = ["--profile=a", "--profile=b", "--profile=c", "--duration=1s", "-q"];
    let output = wac(dir.path(), &options).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    let events = lines(&output.stdout);
    for profile in ["a", "b", "c"] {
        let profile_events: Vec<_> =
            events.iter().filter(|event| event.profile == profile).collect();
        let (first, last) = (profile_events[0], profile_events[profile_events.len() - 1]);
        assert_eq!((first.state, first.operations), (WorkloadState::Started, 0));
        assert_eq!(last.state, WorkloadState::Finished);
        assert!(last.operations > 0, "{last:?}");
        assert_eq!(last.bytes, last.operations * 4096, "{last:?}");
        assert!(last.errors.is_empty(), "{last:?}");
        assert_eq!((last.threads, last.file_size), (4, 65_536));
    }
    assert_empty(dir.path());
}

#[test]
fn every_sync_works_for_both_modes() {
    let dir = tempfile::tempdir().unwrap();
    for sync in ["sync_file_range", "fsync", "none"] {
        let sync = format!("--sync={sync}");
        let options = ["--profile=c", "--duration=1s", "--io-size=512", &sync];
        let output = wac(dir.path(), &options).output().unwrap();
        let events = lines(&output.stdout);
        let last = events.last().unwrap();
        assert!(last.operations > 0 && last.errors.is_empty(), "{sync}: {last:?}");
    }
    assert_empty(dir.path());
}

#[test]
fn direct_io_works_or_is_refused_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let output = wac(dir.path(), &["--profile=d", "--duration=1s", "-q"]).output().unwrap();
    if output.status.success() {
        let events = lines(&output.stdout);
        assert!(events.last().unwrap().operations > 0);
    } else {
        assert_refused(&output, "no O_DIRECT");
    }
    assert_empty(dir.path());
}

#[test]
fn progress_is_printed_each_second_with_totals_so_far() {
    let dir = tempfile::tempdir().unwrap();
    let output = wac(dir.path(), &["--duration=2500ms"]).output().unwrap();
    let events = lines(&output.stdout);
    let progress = events.iter().filter(|event| event.state == WorkloadState::Progress);
    // A busy machine may skip a progress event, but does not print it later.
    let seconds: Vec<_> = progress.map(|event| event.elapsed_ns.unwrap() / 1_000_000_000).collect();
    assert!([&[1, 2][..], &[1], &[2]].contains(&&seconds[..]), "{seconds:?}");
    assert!(events.is_sorted_by_key(|event| event.operations));
    let stderr = str::from_utf8(&output.stderr).unwrap();
    assert!(stderr.contains("operations"), "{stderr}");
}

#[test]
fn a_signal_ends_the_workload_with_a_finished_event() {
    for (signal, kind) in [(Signal::TERM, "a"), (Signal::INT, "b")] {
        let dir = tempfile::tempdir().unwrap();
        let options = ["--duration=1h", "--profile", kind, "--profile=a"];
        let mut child = wac(dir.path(), &options).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut text = String::new();
        stdout.read_line(&mut text).unwrap();
        assert!(text.contains("started"), "{text}");
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        // Agent and terminal may both send a signal.
        kill_process(pid, signal).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        std::io::Read::read_to_string(&mut stdout, &mut text).unwrap();
        assert!(child.wait().unwrap().success());
        let events = lines(text.as_bytes());
        assert_eq!(events.last().unwrap().state, WorkloadState::Finished);
        assert!(events.iter().all(|event| event.profile == kind), "the next profile was started");
        assert_empty(dir.path());
    }
}

#[test]
fn a_closed_output_pipe_ends_the_workload_without_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let mut child =
        wac(dir.path(), &["--duration=1h", "-q"]).stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
    assert_empty(dir.path());
}

#[test]
fn invalid_arguments_are_one_line_errors() {
    let dir = tempfile::tempdir().unwrap();
    for (options, expected) in [
        (vec!["--io-size=1M"], "larger than --file-size"),
        (vec!["--duration=0"], "--duration is zero"),
        (vec!["--profile=e", "--io-size=512"], "multiple of the page size"),
        (vec!["--file-size=4E"], "no room for a scratch file"),
    ] {
        // Quiet, because the workload prints a note if TMPDIR is in memory.
        assert_refused(&wac(dir.path(), &options).arg("-q").output().unwrap(), expected);
    }
    let output = wac(&dir.path().join("missing"), &["-q"]).output().unwrap();
    assert_refused(&output, "is not there");
    assert_refused(&wac(Path::new("/proc"), &["-q"]).output().unwrap(), "no scratch file in /proc");
    assert_empty(dir.path());
}

fn args(path: &Path) -> WacArgs {
    WacArgs {
        profiles: vec!["c".into()],
        path: path.to_owned(),
        threads: 4,
        file_size: 65_536,
        io_size: None,
        duration: Duration::from_hours(1),
        sync: SyncMethod::SyncFileRange,
        seed: 1,
        device_file: None,
        yes: false,
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_child_is_spawned_read_and_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Child::spawn(Path::new(PROGRAM), &args(dir.path()), true).unwrap();
    assert!(child.pid().is_some());
    let mut states = Vec::new();
    while let Some(message) = child.next().await.unwrap() {
        let Message::Event { workload: event, .. } = message else {
            panic!("garbled: {message:?}")
        };
        states.push(event.state);
        child.stop();
    }
    assert!(child.wait().await.unwrap().success());
    assert_eq!(states.first(), Some(&WorkloadState::Started));
    assert_eq!(states.last(), Some(&WorkloadState::Finished));
    assert_empty(dir.path());
}

#[tokio::test(flavor = "current_thread")]
async fn output_of_another_program_is_one_garbled_message() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Child::spawn(Path::new("/bin/echo"), &args(dir.path()), true).unwrap();
    let message = child.next().await.unwrap();
    assert!(matches!(message, Some(Message::Malformed(_))), "{message:?}");
    assert_eq!(child.next().await.unwrap(), None);
    assert!(Child::spawn(Path::new("/no/such"), &args(dir.path()), true).is_err());
}

/// A process that is not the workload's parent stands in for a parent that has died.
#[test]
fn an_orphan_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let output = wac(dir.path(), &[]).env("STABLE_TRACE_WAC_PARENT", "1").output().unwrap();
    assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
    assert_empty(dir.path());
}
