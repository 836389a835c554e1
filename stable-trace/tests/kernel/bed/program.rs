//! Other people's programs.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// Runs a program to its end and returns what it printed; a failure is an error with its words.
pub fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let done = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {program}"))?;
    if !done.status.success() {
        bail!(
            "{program} {} failed ({}): {}",
            arguments.join(" "),
            done.status,
            String::from_utf8_lossy(&done.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// Whether PATH has it.
pub fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}
