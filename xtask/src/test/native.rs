//! The tests that run on the host: unit, integration and documentation tests.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;

use anyhow::{Context as _, Result};

use crate::report::{Tally, libtest::Reader};
use crate::{progress, setup, shell, workspace};

/// Runs the tests whose name contains `only`, forwards their output and counts the results.
pub(crate) fn test(only: Option<&str>) -> Result<Tally> {
    let mut command = workspace::cargo()?;
    command.args(["test", "--workspace", "--exclude", "stable-trace-ebpf", "--no-fail-fast"]);
    command.env("PATH", setup::prometheus::path()?);
    if let Some(only) = only {
        command.args(["--", only]);
    }
    progress::step(shell::describe(&command));
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{}`", shell::describe(&command)))?;

    let mut reader = Reader::default();
    if let Some(output) = child.stdout.take() {
        // A test may print bytes that are not UTF-8.
        for line in BufReader::new(output).split(b'\n') {
            let line =
                String::from_utf8_lossy(&line.context("cannot read cargo's output")?).into_owned();
            // The exit status matters even if stdout is closed.
            let _ = writeln!(std::io::stdout(), "{line}");
            reader.read(&line);
        }
    }
    let status = child.wait().context("cannot wait for cargo")?;
    Ok(reader.end("cargo test", status.success()))
}
