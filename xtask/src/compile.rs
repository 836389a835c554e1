//! Builds the agent. `stable-trace/build.rs` builds the eBPF programs in it.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, anyhow};
use clap::Args;
use serde::Deserialize;

use crate::{progress, setup, shell, workspace};

#[derive(Args)]
pub(crate) struct BuildArgs {
    /// Build with optimisations.
    #[arg(long)]
    release: bool,
}

#[derive(Clone, Copy, Default)]
pub(crate) struct Options<'a> {
    pub(crate) release: bool,
    /// A target other than the host's default one.
    pub(crate) target: Option<&'a str>,
    pub(crate) stripped: bool,
}

pub(crate) fn build(args: &BuildArgs) -> Result<()> {
    let binary = agent(Options { release: args.release, ..Options::default() })?;
    progress::step(format!("built {}", binary.display()));
    Ok(())
}

/// Installs missing build dependencies, builds the agent and returns the path of its binary.
pub(crate) fn agent(options: Options<'_>) -> Result<PathBuf> {
    setup::for_builds()?;
    let mut command = workspace::cargo()?;
    command.args(["build", "--package", "stable-trace", "--bin", "stable-trace"]);
    // The messages name the binary, wherever the user's target directory is.
    command.arg("--message-format=json-render-diagnostics");
    if options.release {
        command.arg("--release");
    }
    if let Some(target) = options.target {
        command.args(["--target", target]);
    }
    if options.stripped {
        // An environment variable would reach the inner build of the eBPF object.
        let profile = if options.release { "release" } else { "dev" };
        command.arg("--config").arg(format!("profile.{profile}.strip=\"symbols\""));
    }
    progress::step("building stable-trace and its eBPF programs");
    executable(&messages(&mut command)?, "stable-trace", None)
        .ok_or_else(|| anyhow!("cargo built stable-trace but reported no executable"))
}

/// Runs a build, and returns cargo's JSON messages.
pub(crate) fn messages(command: &mut Command) -> Result<String> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start `{}`", shell::describe(command)))?;
    if !output.status.success() {
        return Err(shell::failed(command, output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Finds the executable of a target in cargo's JSON messages. `kind` (`test`, `bin`) selects one where
/// several targets have the same name.
pub(crate) fn executable(messages: &str, name: &str, kind: Option<&str>) -> Option<PathBuf> {
    #[derive(Deserialize)]
    struct Artifact {
        target: Target,
        executable: Option<PathBuf>,
    }
    #[derive(Deserialize)]
    struct Target {
        name: String,
        #[serde(default)]
        kind: Vec<String>,
    }
    let wanted = |target: &Target| {
        target.name == name && kind.is_none_or(|kind| target.kind.iter().any(|it| it == kind))
    };
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Artifact>(line).ok())
        .filter(|artifact| wanted(&artifact.target))
        .find_map(|artifact| artifact.executable)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::executable;

    #[test]
    fn the_binary_is_found_among_cargo_s_messages() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"clap"},"executable":null}
{"reason":"build-script-executed","package_id":"x"}
{"reason":"compiler-artifact","target":{"name":"stable-trace"},"executable":"/t/debug/stable-trace"}
{"reason":"build-finished","success":true}"#;
        assert_eq!(
            executable(messages, "stable-trace", None).as_deref(),
            Some(Path::new("/t/debug/stable-trace"))
        );
        assert_eq!(executable("no JSON", "stable-trace", None), None);
    }
}
