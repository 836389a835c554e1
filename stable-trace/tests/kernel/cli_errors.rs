//! Errors of the command line: one line that tells what to do, before the agent creates a file.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};
use tempfile::TempDir;

use crate::harness::{Agent, Requirement, Test};

/// The user and group `nobody`.
const NOBODY: u32 = 65_534;

pub(crate) fn tests() -> Vec<Test> {
    let native = |name: &str, body: fn() -> Result<()>| {
        Test::native(name, body).requires(Requirement::Root).requires(Requirement::Agent)
    };
    vec![
        native("without_root_both_capabilities_are_named", not_root),
        native("the_missing_capability_of_root_is_named", root_without_a_capability),
        native("invalid_and_missing_arguments_are_refused", invalid_arguments),
        native("a_thread_id_is_not_a_process_id", a_thread_id),
        native("an_unavailable_method_leaves_no_file", unavailable_methods),
    ]
}

/// A world-writable folder with a copy of the agent and its output file.
struct Sandbox(TempDir);

impl Sandbox {
    fn new() -> Result<Self> {
        let sandbox = Self(tempfile::tempdir()?);
        fs::set_permissions(sandbox.0.path(), fs::Permissions::from_mode(0o777))?;
        fs::copy(Agent::program(), sandbox.program()).context("cannot copy the agent")?;
        Ok(sandbox)
    }

    fn program(&self) -> PathBuf {
        self.0.path().join("stable-trace")
    }

    fn stream(&self) -> PathBuf {
        self.0.path().join("stream.json")
    }

    /// A trace that writes its stream to a file.
    fn command(&self, options: &[&str]) -> Command {
        let mut command = Command::new(self.program());
        command.args(["trace", "--output"]).arg(self.stream());
        if options.first() != Some(&"--duration") {
            // A command that is not refused ends by itself, and the test fails.
            command.arg("--duration=1ms");
        }
        command.args(options).stdin(Stdio::null());
        command
    }

    /// Checks that the error is one line and that no file was created. Returns the error.
    fn refused(&self, output: &Output, code: i32) -> Result<String> {
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(code), "{}: {errors}", output.status);
        ensure!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
        ensure!(!self.stream().exists(), "the output file was created: {errors}");
        // clap adds a hint to its errors.
        let lines = if code == 1 { errors.lines().count() } else { 1 };
        ensure!(lines == 1, "not one line: {errors}");
        Ok(errors)
    }
}

fn not_root() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let errors = sandbox.refused(&sandbox.command(&[]).uid(NOBODY).gid(NOBODY).output()?, 1)?;
    for word in ["CAP_BPF", "CAP_PERFMON", "sudo", "setcap"] {
        ensure!(errors.contains(word), "no {word}: {errors}");
    }
    Ok(())
}

fn root_without_a_capability() -> Result<()> {
    // CAP_SYS_ADMIN implies both capabilities, so it is dropped as well.
    for (dropped, named, other) in [
        (CapabilitySet::BPF, "missing CAP_BPF:", "CAP_PERFMON"),
        (CapabilitySet::PERFMON, "missing CAP_PERFMON:", "CAP_BPF"),
    ] {
        let sandbox = Sandbox::new()?;
        let mut command = sandbox.command(&[]);
        // SAFETY: between fork and exec the closure makes two system calls: it takes no lock and
        // allocates nothing.
        unsafe {
            command.pre_exec(move || {
                remove_capability_from_bounding_set(CapabilitySet::SYS_ADMIN)?;
                Ok(remove_capability_from_bounding_set(dropped)?)
            });
        }
        let errors = sandbox.refused(&command.output()?, 1)?;
        ensure!(errors.contains(named) && !errors.contains(other), "not {named} {errors}");
    }
    Ok(())
}

/// Each case has the words that its error must contain.
fn invalid_arguments() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let elsewhere = sandbox.0.path().to_string_lossy().into_owned();
    for (options, code, words) in [
        (["--device", "nosuch0"], 1, ["nosuch0", "lsblk"]),
        (["--device", "255:77"], 1, ["255:77", "lsblk"]),
        (["--device", "/dev/null"], 1, ["/dev/null", "lsblk"]),
        // Beyond PID_MAX_LIMIT (include/linux/threads.h): no process can have it.
        (["--pid", "4194305"], 1, ["4194305", "no such process"]),
        (["--comm", "sixteen-letters!"], 1, ["sixteen-letters!", "at most 15"]),
        (["--cgroup", "/no/such/group"], 1, ["/no/such/group", "/sys/fs/cgroup"]),
        (["--cgroup", &elsewhere], 1, [&elsewhere, "cgroup2"]),
        (["--ring-size", "2GiB"], 1, ["--ring-size", "1GiB"]),
        (["--web-config", "/no/such.yml"], 1, ["/no/such.yml", "No such file"]),
        (["--listen", "192.0.2.1:9748"], 1, ["192.0.2.1:9748", "--listen off"]),
        (["--listen", "9748"], 2, ["9748", "IP:PORT"]),
        (["--min-latency", "soon"], 2, ["soon", "--min-latency"]),
        (["--duration", "10"], 2, ["10", "--duration"]),
        (["--attach", "magic"], 2, ["magic", "tracepoint"]),
        (["--pid", "-1"], 2, ["-1", "--"]),
    ] {
        let errors = sandbox.refused(&sandbox.command(&options).output()?, code)?;
        for word in words {
            ensure!(errors.contains(word), "{options:?}: no {word}: {errors}");
        }
    }
    Ok(())
}

/// /proc has an entry for the ID of a thread, too.
fn a_thread_id() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let output = std::thread::spawn(move || -> Result<_> {
        let tid = rustix::thread::gettid().as_raw_nonzero().to_string();
        let output = sandbox.command(&["--pid", &tid]).output()?;
        Ok((tid, sandbox.refused(&output, 1)?))
    });
    let (tid, errors) = output.join().map_err(|_| anyhow::anyhow!("the thread panicked"))??;
    let remedy = format!("give --pid {}", std::process::id());
    ensure!(errors.contains(&tid) && errors.contains(&remedy), "{errors}");
    Ok(())
}

/// The kernel of the machine that builds has neither kprobes nor fentry.
fn unavailable_methods() -> Result<()> {
    for method in ["kprobe", "fentry"] {
        let sandbox = Sandbox::new()?;
        let errors = sandbox.refused(&sandbox.command(&["--attach", method]).output()?, 1)?;
        ensure!(errors.contains(method) && errors.contains("doctor"), "{errors}");
    }
    Ok(())
}
