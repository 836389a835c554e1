//! Builds the agent, its eBPF programs included: `stable-trace/build.rs` makes those.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context as _, Result, anyhow};
use clap::Args;
use serde::Deserialize;

use crate::{progress, setup, shell, workspace};

/// Options of `cargo xtask build`.
#[derive(Args)]
pub struct BuildArgs {
    /// Optimise, as for use.
    #[arg(long)]
    release: bool,
}

/// How the agent is compiled.
#[derive(Clone, Copy, Default)]
pub struct Options<'a> {
    /// Optimised, as for use.
    pub release: bool,
    /// For another target than this machine's default one.
    pub target: Option<&'a str>,
    /// Without symbols.
    pub stripped: bool,
}

/// `cargo xtask build`.
///
/// # Errors
/// If set-up or build fails.
pub fn build(args: &BuildArgs) -> Result<()> {
    let binary = agent(Options { release: args.release, ..Options::default() })?;
    progress::step(format!("built {}", binary.display()));
    Ok(())
}

/// Sets up, builds the agent, and says where its binary is.
///
/// # Errors
/// If set-up or build fails.
pub fn agent(options: Options<'_>) -> Result<PathBuf> {
    setup::for_builds()?;
    let mut command = workspace::cargo()?;
    command.args(["build", "--package", "stable-trace", "--bin", "stable-trace"]);
    // Only cargo knows where its output goes: a user may have set a target directory.
    command.arg("--message-format=json-render-diagnostics");
    if options.release {
        command.arg("--release");
    }
    if let Some(target) = options.target {
        command.args(["--target", target]);
    }
    if options.stripped {
        // Not by environment, which the inner build of the eBPF object would inherit.
        let profile = if options.release { "release" } else { "dev" };
        command.arg("--config").arg(format!("profile.{profile}.strip=\"symbols\""));
    }
    progress::step("building stable-trace and its eBPF programs");
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start `{}`", shell::describe(&command)))?;
    if !output.status.success() {
        return Err(shell::failed(&command, output.status));
    }
    executable(&String::from_utf8_lossy(&output.stdout), "stable-trace", None)
        .ok_or_else(|| anyhow!("cargo built stable-trace but did not say where"))
}

/// Where cargo's messages say that the executable of a target is; `kind` tells a test (`test`) from a
/// binary (`bin`) where both are built.
pub fn executable(messages: &str, name: &str, kind: Option<&str>) -> Option<PathBuf> {
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
