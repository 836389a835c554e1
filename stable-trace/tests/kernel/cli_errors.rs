//! What cannot be done is refused in one line that says what to do, before anything is touched.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};
use tempfile::TempDir;

use crate::harness::{Agent, Requirement, Test};

/// Whoever owns nothing.
const NOBODY: u32 = 65_534;

pub fn tests() -> Vec<Test> {
    let native = |name: &str, body: fn() -> Result<()>| {
        Test::native(name, body).requires(Requirement::Root).requires(Requirement::Agent)
    };
    vec![
        native("without_root_both_capabilities_are_named", not_root),
        native("root_without_a_capability_is_told_which", root_without_a_capability),
        native("what_is_not_there_cannot_be_traced", what_is_not_there),
        native("a_thread_is_no_process", a_thread_is_no_process),
        native("a_method_that_is_not_there_leaves_no_file", a_method_that_is_not_there),
    ]
}

/// The agent where anybody may run it, and a place for its output.
struct Ground(TempDir);

impl Ground {
    fn new() -> Result<Self> {
        let ground = Self(tempfile::tempdir()?);
        fs::set_permissions(ground.0.path(), fs::Permissions::from_mode(0o777))?;
        fs::copy(Agent::program(), ground.program()).context("cannot copy the agent")?;
        Ok(ground)
    }

    fn program(&self) -> PathBuf {
        self.0.path().join("stable-trace")
    }

    fn stream(&self) -> PathBuf {
        self.0.path().join("stream.json")
    }

    /// A trace that would begin at once, and write to a file.
    fn command(&self, options: &[&str]) -> Command {
        let mut command = Command::new(self.program());
        command.args(["trace", "--output"]).arg(self.stream());
        if options.first() != Some(&"--duration") {
            // What is not refused ends by itself, and the test fails.
            command.arg("--duration=1ms");
        }
        command.args(options).stdin(Stdio::null());
        command
    }

    /// Refused in one line, and nothing was made.
    fn refused(&self, output: &Output, code: i32) -> Result<String> {
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(code), "{}: {errors}", output.status);
        ensure!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
        ensure!(!self.stream().exists(), "the output's file was made: {errors}");
        // clap adds a hint to what it refuses.
        let lines = if code == 1 { errors.lines().count() } else { 1 };
        ensure!(lines == 1, "not one line: {errors}");
        Ok(errors)
    }
}

fn not_root() -> Result<()> {
    let ground = Ground::new()?;
    let errors = ground.refused(&ground.command(&[]).uid(NOBODY).gid(NOBODY).output()?, 1)?;
    for word in ["CAP_BPF", "CAP_PERFMON", "sudo", "setcap"] {
        ensure!(errors.contains(word), "no {word}: {errors}");
    }
    Ok(())
}

fn root_without_a_capability() -> Result<()> {
    // CAP_SYS_ADMIN stands for both of the others, so it goes too.
    for (dropped, named, other) in [
        (CapabilitySet::BPF, "missing CAP_BPF:", "CAP_PERFMON"),
        (CapabilitySet::PERFMON, "missing CAP_PERFMON:", "CAP_BPF"),
    ] {
        let ground = Ground::new()?;
        let mut command = ground.command(&[]);
        // SAFETY: between fork and exec the closure makes two system calls: it takes no lock and
        // allocates nothing.
        unsafe {
            command.pre_exec(move || {
                remove_capability_from_bounding_set(CapabilitySet::SYS_ADMIN)?;
                Ok(remove_capability_from_bounding_set(dropped)?)
            });
        }
        let errors = ground.refused(&command.output()?, 1)?;
        ensure!(errors.contains(named) && !errors.contains(other), "not {named} {errors}");
    }
    Ok(())
}

/// Each with what its error must name.
fn what_is_not_there() -> Result<()> {
    let ground = Ground::new()?;
    let elsewhere = ground.0.path().to_string_lossy().into_owned();
    for (options, code, words) in [
        (["--device", "nosuch0"], 1, ["nosuch0", "lsblk"]),
        (["--device", "255:77"], 1, ["255:77", "lsblk"]),
        (["--device", "/dev/null"], 1, ["/dev/null", "lsblk"]),
        // Beyond PID_MAX_LIMIT (include/linux/threads.h): nobody can have it.
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
        let errors = ground.refused(&ground.command(&options).output()?, code)?;
        for word in words {
            ensure!(errors.contains(word), "{options:?}: no {word}: {errors}");
        }
    }
    Ok(())
}

/// A thread's id is one in /proc as well, though not of a process.
fn a_thread_is_no_process() -> Result<()> {
    let ground = Ground::new()?;
    let output = std::thread::spawn(move || -> Result<_> {
        let tid = rustix::thread::gettid().as_raw_nonzero().to_string();
        let output = ground.command(&["--pid", &tid]).output()?;
        Ok((tid, ground.refused(&output, 1)?))
    });
    let (tid, errors) = output.join().map_err(|_| anyhow::anyhow!("the thread panicked"))??;
    let remedy = format!("give --pid {}", std::process::id());
    ensure!(errors.contains(&tid) && errors.contains(&remedy), "{errors}");
    Ok(())
}

/// There are no kprobes on the machine that builds, and no fentry either.
fn a_method_that_is_not_there() -> Result<()> {
    for method in ["kprobe", "fentry"] {
        let ground = Ground::new()?;
        let errors = ground.refused(&ground.command(&["--attach", method]).output()?, 1)?;
        ensure!(errors.contains(method) && errors.contains("doctor"), "{errors}");
    }
    Ok(())
}
