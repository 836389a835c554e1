//! The programs that guests run. They are static, so that they need no libraries of the guest.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use crate::{compile, progress, setup, workspace};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Programs {
    /// The test program: `stable-trace/tests/kernel`.
    pub(crate) tests: PathBuf,
    /// The agent, optimised as a release but for what only a longer build gives.
    pub(crate) agent: PathBuf,
}

impl Programs {
    pub(crate) fn build() -> Result<Self> {
        setup::for_builds()?;
        let target = setup::rust::ensure_musl()?;
        progress::step("building the agent and the tests for guests");
        let output = workspace::cargo()?
            .args(["test", "--no-run", "--profile", "lab", "--target", &target])
            .args(["--package", "stable-trace", "--test", "kernel"])
            .arg("--message-format=json-render-diagnostics")
            .stderr(std::process::Stdio::inherit())
            .output()
            .context("cannot start cargo")?;
        if !output.status.success() {
            bail!("cargo failed to build the guests' programs ({})", output.status);
        }
        Self::find(&String::from_utf8_lossy(&output.stdout))
            .context("cargo built the guests' programs but reported no executables")
    }

    fn find(messages: &str) -> Option<Self> {
        let executable = |name, kind| compile::executable(messages, name, Some(kind));
        Some(Self {
            tests: executable("kernel", "test")?,
            agent: executable("stable-trace", "bin")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_found_among_cargo_s_messages() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"stable-trace","kind":["lib"]},"executable":null}
{"reason":"compiler-artifact","target":{"name":"stable-trace","kind":["bin"]},"executable":"/t/stable-trace"}
{"reason":"compiler-artifact","target":{"name":"kernel","kind":["test"]},"executable":"/t/deps/kernel-1"}
{"reason":"build-finished","success":true}"#;
        let programs = Programs::find(messages).unwrap();
        assert_eq!(programs.tests, PathBuf::from("/t/deps/kernel-1"));
        assert_eq!(programs.agent, PathBuf::from("/t/stable-trace"));
        assert_eq!(Programs::find("no JSON"), None);
    }
}
