//! Runs child commands; errors quote the whole command line.

use std::env;
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context as _, Result, anyhow, bail};

/// Folders that are not in an ordinary user's `PATH`.
const SBIN: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// Runs a command; its stdout goes to stderr, since it is progress output.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = status(command.stdout(std::io::stderr()))?;
    if status.success() { Ok(()) } else { Err(failed(command, status)) }
}

/// Runs a command with inherited stdin, stdout and stderr, and returns its exit status.
pub(crate) fn status(command: &mut Command) -> Result<ExitStatus> {
    command.status().with_context(|| format!("cannot start `{}`", describe(command)))
}

/// Runs a command and returns its trimmed stdout. An error has its last line on stderr as the cause.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start `{}`", describe(command)))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let cause =
            stderr.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it printed no error");
        return Err(anyhow!("{}", cause.trim()).context(failed(command, output.status)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

pub(crate) fn failed(command: &Command, status: ExitStatus) -> anyhow::Error {
    anyhow!("`{}` failed ({status})", describe(command))
}

/// The command line for messages, with the program's name instead of its path.
pub(crate) fn describe(command: &Command) -> String {
    let program = Path::new(command.get_program());
    std::iter::once(program.file_name().unwrap_or(program.as_os_str()))
        .chain(command.get_args())
        .map(|word| {
            let word = word.to_string_lossy();
            if word.is_empty() || word.contains(char::is_whitespace) {
                format!("'{word}'")
            } else {
                word.into_owned()
            }
        })
        .collect::<Vec<_>>()
        .join(" ")
}

/// Finds a program in `PATH` and in the `sbin` folders.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(SBIN.map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|candidate| is_program(candidate))
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A command that runs as root, through `sudo` if this process is not root.
pub(crate) fn privileged(program: impl AsRef<OsStr>) -> Result<Command> {
    let program = program.as_ref();
    // `PATH` may lack the `sbin` folders.
    let program = program.to_str().and_then(find).unwrap_or_else(|| PathBuf::from(program));
    if is_root() {
        return Ok(Command::new(program));
    }
    if find("sudo").is_none() {
        bail!("this needs root and `sudo` is not installed: run it as root, or install sudo");
    }
    let mut command = Command::new("sudo");
    command.arg("--").arg(program);
    Ok(command)
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_command_status_and_cause() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo first >&2; echo the cause >&2; exit 3"]);
        let error = format!("{:#}", output(&mut command).unwrap_err());
        assert_eq!(
            error,
            "`sh -c 'echo first >&2; echo the cause >&2; exit 3'` failed (exit status: 3): the cause"
        );
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = format!("{:#}", run(&mut Command::new("no-such-program")).unwrap_err());
        assert!(error.starts_with("cannot start `no-such-program`"), "{error}");
    }

    #[test]
    fn programs_are_found_by_name_and_by_path() {
        assert!(find("sh").is_some());
        assert!(find("/bin/sh").is_some());
        assert_eq!(find("no-such-program"), None);
    }
}
